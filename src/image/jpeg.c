/*
 * Reads JPEG through libjpeg-turbo's libjpeg API.
 *
 * The TurboJPEG API keeps only the first warning, so a harmless warning can hide a loss. The error
 * manager here sees every warning with its code. Every picture has its own libjpeg object, which is
 * destroyed afterwards, so no table outlives its file.
 *
 * No longjmp crosses a Rust stack frame: each function that Rust calls sets its own jump target
 * first, and nothing here calls Rust. The caller checks the sizes of all buffers.
 */
#include "listener.h"

#include <stdlib.h>

#include <jerror.h>

#define ROWS_MAX (MAX_SAMP_FACTOR * DCTSIZE)

/*
 * Largest luma plane, in samples, that is decoded directly. Each block touches eight rows, so a
 * plane that is not in the cache is filled faster by copying rows that are. For 1080p with little
 * to decode, copying is a fifth faster.
 */
#define DIRECT_SAMPLES_MAX (1u << 19)

/* Result for the caller; keep in step with the struct in jpeg.rs. */
struct fp_header {
  unsigned width;
  unsigned height;
  unsigned colours; /* J_COLOR_SPACE */
  unsigned across;  /* sampling factors of the first component */
  unsigned down;
};

struct fp_outcome {
  unsigned warnings;
  unsigned losses;
  size_t consumed; /* bytes read when the last row was decoded, or when decoding failed */
  unsigned scans;
};

struct fp_decoder {
  struct jpeg_decompress_struct object;
  struct listener listener;
  struct jpeg_progress_mgr progress;
  struct jpeg_source_mgr source;
  const JOCTET *bytes;
  size_t len;
  /* Where real input ended when libjpeg first asked for more. */
  const JOCTET *cut_at;
  unsigned scans_max;
  int open;
};

static void note_loss(struct listener *listener, const char *text)
{
  if (listener->losses++ == 0)
    snprintf(listener->text, sizeof(listener->text), "%s", text);
}

/* The source: one slice, then an end marker, as libjpeg's own source does. */

static void source_nothing(j_decompress_ptr object)
{
  (void)object;
}

static boolean source_end(j_decompress_ptr object)
{
  static const JOCTET end[] = { 0xFF, JPEG_EOI };

  struct fp_decoder *decoder = (struct fp_decoder *)object->client_data;

  if (!decoder->listener.cut)
    decoder->cut_at = object->src->next_input_byte;
  WARNMS(object, JWRN_JPEG_EOF);
  object->src->next_input_byte = end;
  object->src->bytes_in_buffer = sizeof(end);
  return TRUE;
}

static void source_skip(j_decompress_ptr object, long count)
{
  struct jpeg_source_mgr *source = object->src;

  if (count <= 0)
    return;
  while ((size_t)count > source->bytes_in_buffer) {
    count -= (long)source->bytes_in_buffer;
    source_end(object);
  }
  source->next_input_byte += count;
  source->bytes_in_buffer -= (size_t)count;
}

static void count_scans(j_common_ptr object)
{
  struct fp_decoder *decoder = (struct fp_decoder *)object->client_data;

  if (decoder->object.input_scan_number > (int)decoder->scans_max) {
    snprintf(decoder->listener.text, sizeof(decoder->listener.text),
             "JPEG of more than %u scans", decoder->scans_max);
    longjmp(decoder->listener.failed, 1);
  }
}

struct fp_decoder *fp_decoder_new(unsigned scans_max)
{
  struct fp_decoder *decoder = calloc(1, sizeof(*decoder));

  if (decoder)
    decoder->scans_max = scans_max;
  return decoder;
}

void fp_decoder_close(struct fp_decoder *decoder)
{
  if (decoder->open) {
    decoder->open = 0;
    jpeg_destroy_decompress(&decoder->object);
  }
}

void fp_decoder_free(struct fp_decoder *decoder)
{
  fp_decoder_close(decoder);
  free(decoder);
}

/* The first loss, or the error; empty if there is neither. Valid until the next open. */
const char *fp_decoder_text(const struct fp_decoder *decoder)
{
  return decoder->listener.text;
}

/* Reads the header. `bytes` must stay valid until the decoder is closed. */
int fp_decoder_open(struct fp_decoder *decoder, const unsigned char *bytes, size_t len,
                    struct fp_header *header)
{
  j_decompress_ptr object = &decoder->object;

  fp_decoder_close(decoder);
  object->err = fp_listen(&decoder->listener);
  if (setjmp(decoder->listener.failed)) {
    fp_decoder_close(decoder);
    return FAILED;
  }
  decoder->open = 1;
  jpeg_create_decompress(object);
  object->client_data = decoder;
  decoder->progress.progress_monitor = count_scans;
  object->progress = &decoder->progress;
  decoder->bytes = bytes;
  decoder->len = len;
  decoder->source.init_source = source_nothing;
  decoder->source.fill_input_buffer = source_end;
  decoder->source.skip_input_data = source_skip;
  decoder->source.resync_to_restart = jpeg_resync_to_restart;
  decoder->source.term_source = source_nothing;
  decoder->source.next_input_byte = bytes;
  decoder->source.bytes_in_buffer = len;
  object->src = &decoder->source;

  jpeg_read_header(object, TRUE);
  header->width = object->image_width;
  header->height = object->image_height;
  header->colours = (unsigned)object->jpeg_color_space;
  header->across = (unsigned)object->comp_info[0].h_samp_factor;
  header->down = (unsigned)object->comp_info[0].v_samp_factor;
  return DONE;
}

static size_t consumed(const struct fp_decoder *decoder)
{
  const JOCTET *at = decoder->source.next_input_byte;

  if (decoder->listener.cut)
    at = decoder->cut_at;
  return (size_t)(at - decoder->bytes);
}

/*
 * Detects losses that libjpeg does not warn of. A truncated file may lack whole scans: those of a
 * component, or the refinement of some coefficients. The arithmetic decoder silently continues with
 * zeros.
 */
static void judge_end(struct fp_decoder *decoder)
{
  j_decompress_ptr object = &decoder->object;
  int component, k;

  for (component = 0; component < object->num_components; component++) {
    if (object->comp_info[component].quant_table == NULL) {
      note_loss(&decoder->listener, "JPEG without a scan of every component");
      return;
    }
  }
  if (!decoder->listener.cut)
    return;
  if (object->arith_code)
    note_loss(&decoder->listener, "JPEG ends within its arithmetic codes");
  for (component = 0; object->coef_bits && component < object->num_components; component++) {
    for (k = 0; k < DCTSIZE2; k++) {
      if (object->coef_bits[component][k] != 0) {
        note_loss(&decoder->listener, "JPEG ends before its last scan");
        return;
      }
    }
  }
}

/* Reads to the end marker. An error here comes after the last sample and costs nothing. */
static void finish(struct fp_decoder *decoder, struct fp_outcome *outcome)
{
  outcome->consumed = consumed(decoder);
  outcome->scans = (unsigned)decoder->object.input_scan_number;
  judge_end(decoder);
  if (setjmp(decoder->listener.failed) == 0)
    jpeg_finish_decompress(&decoder->object);
  else
    decoder->listener.warnings++;
  outcome->warnings = decoder->listener.warnings;
  outcome->losses = decoder->listener.losses;
  fp_decoder_close(decoder);
}

static int give_up(struct fp_decoder *decoder, struct fp_outcome *outcome)
{
  outcome->consumed = consumed(decoder);
  outcome->scans = (unsigned)decoder->object.input_scan_number;
  outcome->warnings = decoder->listener.warnings;
  outcome->losses = decoder->listener.losses;
  fp_decoder_close(decoder);
  return FAILED;
}

/* Whether rows of a component are decoded directly into its plane. */
static int is_direct(const jpeg_component_info *about, const unsigned widths[],
                     const unsigned heights[])
{
  return widths[about->component_index] == about->width_in_blocks * DCTSIZE &&
         (size_t)widths[0] * heights[0] <= DIRECT_SAMPLES_MAX;
}

/*
 * Decodes to planes in the file's own subsampling, without padding: component i has widths[i] x
 * heights[i] samples at planes[i]. A plane must not be larger than its blocks.
 */
int fp_decoder_planes(struct fp_decoder *decoder, unsigned char *const planes[],
                      const unsigned widths[], const unsigned heights[], unsigned count,
                      struct fp_outcome *outcome)
{
  j_decompress_ptr object = &decoder->object;
  JSAMPROW rows[MAX_COMPONENTS][ROWS_MAX];
  JSAMPARRAY image[MAX_COMPONENTS];
  JSAMPARRAY spare[MAX_COMPONENTS];
  unsigned component, row;

  if (!decoder->open)
    return FAILED;
  if (setjmp(decoder->listener.failed))
    return give_up(decoder, outcome);
  object->raw_data_out = TRUE;
  object->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(object);
  if ((int)count != object->num_components)
    ERREXIT(object, JERR_COMPONENT_COUNT);
  for (component = 0; component < count; component++) {
    jpeg_component_info *about = &object->comp_info[component];
    JDIMENSION wide = about->width_in_blocks * DCTSIZE;
    JDIMENSION high = about->height_in_blocks * DCTSIZE;

    if (widths[component] > wide || heights[component] > high)
      ERREXIT(object, JERR_BAD_DCTSIZE);
    /* Rows not decoded directly into the plane: all rows, or the padding below the last. */
    spare[component] = (*object->mem->alloc_sarray)(
      (j_common_ptr)object, JPOOL_IMAGE, wide,
      is_direct(about, widths, heights)
        ? 1 : (JDIMENSION)(about->v_samp_factor * DCTSIZE));
    image[component] = rows[component];
  }
  while (object->output_scanline < object->output_height) {
    JDIMENSION group = object->output_scanline / (object->max_v_samp_factor * DCTSIZE);

    for (component = 0; component < count; component++) {
      jpeg_component_info *about = &object->comp_info[component];
      unsigned in_group = (unsigned)(about->v_samp_factor * DCTSIZE);
      int direct = is_direct(about, widths, heights);

      for (row = 0; row < in_group; row++) {
        size_t at = (size_t)group * in_group + row;

        if (!direct)
          rows[component][row] = spare[component][row];
        else if (at < heights[component])
          rows[component][row] = planes[component] + at * widths[component];
        else
          rows[component][row] = spare[component][0];
      }
    }
    jpeg_read_raw_data(object, image, (JDIMENSION)(object->max_v_samp_factor * DCTSIZE));
    for (component = 0; component < count; component++) {
      jpeg_component_info *about = &object->comp_info[component];
      unsigned in_group = (unsigned)(about->v_samp_factor * DCTSIZE);

      if (is_direct(about, widths, heights))
        continue;
      for (row = 0; row < in_group; row++) {
        size_t at = (size_t)group * in_group + row;

        if (at < heights[component])
          memcpy(planes[component] + at * widths[component], spare[component][row],
                 widths[component]);
      }
    }
  }
  finish(decoder, outcome);
  return DONE;
}

/* Decodes to interleaved RGB with interpolated chroma; `pixels` has 3 x width x height bytes. */
int fp_decoder_pixels(struct fp_decoder *decoder, unsigned char *pixels,
                      struct fp_outcome *outcome)
{
  j_decompress_ptr object = &decoder->object;
  JSAMPROW rows[ROWS_MAX];
  size_t stride;

  if (!decoder->open)
    return FAILED;
  if (setjmp(decoder->listener.failed))
    return give_up(decoder, outcome);
  object->out_color_space = JCS_EXT_RGB;
  object->dct_method = JDCT_ISLOW;
  jpeg_start_decompress(object);
  stride = (size_t)object->output_width * 3;
  while (object->output_scanline < object->output_height) {
    JDIMENSION first = object->output_scanline;
    JDIMENSION count = object->output_height - first, row;

    if (count > ROWS_MAX)
      count = ROWS_MAX;
    for (row = 0; row < count; row++)
      rows[row] = pixels + (first + row) * stride;
    jpeg_read_scanlines(object, rows, count);
  }
  finish(decoder, outcome);
  return DONE;
}
