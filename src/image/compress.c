/*
 * Writes JPEG through libjpeg-turbo's libjpeg API, because the TurboJPEG API does not accept
 * Huffman tables.
 *
 * One object encodes many pictures and keeps the tables of the last one. Therefore every picture
 * sets all four tables and marks them as not yet sent. libjpeg-turbo does not check whether a
 * symbol has a code: the caller's tables must have a code for every symbol that can occur.
 *
 * The file is written to the caller's buffer. If the buffer is too small, the attempt ends; this
 * code never enlarges the buffer.
 *
 * No longjmp crosses a Rust stack frame: each function that Rust calls sets its own jump target
 * first, and nothing here calls Rust. The caller checks the sizes of all pixel buffers.
 */
#include "listener.h"

#include <stdlib.h>

#include <jerror.h>

#define TABLES 4

/* Keep in step with the structs in compress.rs. */
struct fp_table {
  unsigned char counts[16]; /* codes of 1 to 16 bits */
  const unsigned char *values;
  size_t len;
};

struct fp_coding {
  int quality;
  int restart_rows;
  int two_passes; /* optimise the tables for this picture; those below are not used */
  /* Luma DC, luma AC, chroma DC, chroma AC. */
  struct fp_table tables[TABLES];
};

struct fp_output {
  unsigned char *start;
  size_t room;
  size_t len; /* set once the picture is complete */
};

struct fp_encoder {
  struct jpeg_compress_struct object;
  struct listener listener;
  struct jpeg_destination_mgr destination;
  int is_full;
};

static void destination_nothing(j_compress_ptr object)
{
  (void)object;
}

static boolean destination_full(j_compress_ptr object)
{
  struct fp_encoder *encoder = (struct fp_encoder *)object->client_data;

  encoder->is_full = 1;
  longjmp(encoder->listener.failed, 1);
  return FALSE;
}

static int create(struct fp_encoder *encoder)
{
  encoder->object.err = fp_listen(&encoder->listener);
  if (setjmp(encoder->listener.failed)) {
    jpeg_destroy_compress(&encoder->object);
    return FAILED;
  }
  jpeg_create_compress(&encoder->object);
  encoder->object.client_data = encoder;
  encoder->destination.init_destination = destination_nothing;
  encoder->destination.empty_output_buffer = destination_full;
  encoder->destination.term_destination = destination_nothing;
  encoder->object.dest = &encoder->destination;
  return DONE;
}

struct fp_encoder *fp_encoder_new(void)
{
  struct fp_encoder *encoder = calloc(1, sizeof(*encoder));

  if (encoder && create(encoder) != DONE) {
    free(encoder);
    return NULL;
  }
  return encoder;
}

void fp_encoder_free(struct fp_encoder *encoder)
{
  jpeg_destroy_compress(&encoder->object);
  free(encoder);
}

/* The error message; valid until the next picture. */
const char *fp_encoder_text(const struct fp_encoder *encoder)
{
  return encoder->listener.text;
}

static void set_table(j_compress_ptr object, JHUFF_TBL **place, const struct fp_table *table)
{
  if (*place == NULL)
    *place = jpeg_alloc_huff_table((j_common_ptr)object);
  if (table->len > sizeof((*place)->huffval))
    ERREXIT(object, JERR_BAD_HUFF_TABLE);
  (*place)->bits[0] = 0;
  memcpy((*place)->bits + 1, table->counts, sizeof(table->counts));
  memcpy((*place)->huffval, table->values, table->len);
  (*place)->sent_table = FALSE;
}

/* Configures the encoder and writes the header. */
static void begin(struct fp_encoder *encoder, const struct fp_coding *coding, unsigned width,
                  unsigned height, int components, int is_raw, struct fp_output *output)
{
  j_compress_ptr object = &encoder->object;

  encoder->destination.next_output_byte = output->start;
  encoder->destination.free_in_buffer = output->room;
  object->image_width = width;
  object->image_height = height;
  object->input_components = components;
  if (components == 1)
    object->in_color_space = JCS_GRAYSCALE;
  else
    object->in_color_space = is_raw ? JCS_YCbCr : JCS_EXT_RGB;
  jpeg_set_defaults(object);
  jpeg_set_quality(object, coding->quality, TRUE);
  object->dct_method = JDCT_ISLOW;
  object->raw_data_in = is_raw ? TRUE : FALSE;
  object->restart_in_rows = coding->restart_rows;
  object->optimize_coding = coding->two_passes ? TRUE : FALSE;
  if (!coding->two_passes) {
    set_table(object, &object->dc_huff_tbl_ptrs[0], &coding->tables[0]);
    set_table(object, &object->ac_huff_tbl_ptrs[0], &coding->tables[1]);
    set_table(object, &object->dc_huff_tbl_ptrs[1], &coding->tables[2]);
    set_table(object, &object->ac_huff_tbl_ptrs[1], &coding->tables[3]);
  }
  jpeg_start_compress(object, TRUE);
}

static int end(struct fp_encoder *encoder, struct fp_output *output)
{
  jpeg_finish_compress(&encoder->object);
  output->len = output->room - encoder->destination.free_in_buffer;
  return DONE;
}

static int give_up(struct fp_encoder *encoder)
{
  jpeg_abort_compress(&encoder->object);
  return encoder->is_full ? FULL : FAILED;
}

static void listen_anew(struct fp_encoder *encoder)
{
  encoder->object.err = fp_listen(&encoder->listener);
  encoder->is_full = 0;
}

/* Encodes interleaved pixels without padding: RGB if there are 3 components, gray if there is 1. */
int fp_encoder_pixels(struct fp_encoder *encoder, const struct fp_coding *coding,
                      const unsigned char *pixels, unsigned width, unsigned height, int components,
                      struct fp_output *output)
{
  j_compress_ptr object = &encoder->object;
  JSAMPROW rows[DCTSIZE * 2];
  size_t stride = (size_t)width * (size_t)components;

  listen_anew(encoder);
  if (setjmp(encoder->listener.failed))
    return give_up(encoder);
  begin(encoder, coding, width, height, components, 0, output);
  while (object->next_scanline < height) {
    JDIMENSION first = object->next_scanline;
    JDIMENSION count = height - first, row;

    if (count > DCTSIZE * 2)
      count = DCTSIZE * 2;
    for (row = 0; row < count; row++)
      rows[row] = (JSAMPROW)(pixels + (first + row) * stride);
    jpeg_write_scanlines(object, rows, count);
  }
  return end(encoder, output);
}

/* Pads a row to whole blocks by repeating its last sample. */
static JSAMPROW whole_row(const unsigned char *row, unsigned width, JSAMPROW spare, unsigned wide)
{
  if (width == wide)
    return (JSAMPROW)row;
  memcpy(spare, row, width);
  memset(spare + width, row[width - 1], wide - width);
  return spare;
}

/*
 * Encodes 4:2:0 or gray planes: component i has widths[i] x heights[i] samples at planes[i],
 * without padding. The last column and the last row are repeated to fill the blocks.
 */
int fp_encoder_planes(struct fp_encoder *encoder, const struct fp_coding *coding,
                      const unsigned char *const planes[], const unsigned widths[],
                      const unsigned heights[], unsigned width, unsigned height, int components,
                      struct fp_output *output)
{
  j_compress_ptr object = &encoder->object;
  JSAMPROW rows[3][2 * DCTSIZE];
  JSAMPARRAY image[3];
  JSAMPARRAY spare[3];
  int component;

  listen_anew(encoder);
  if (setjmp(encoder->listener.failed))
    return give_up(encoder);
  begin(encoder, coding, width, height, components, 1, output);
  for (component = 0; component < components; component++) {
    jpeg_component_info *about = &object->comp_info[component];
    JDIMENSION wide = about->width_in_blocks * DCTSIZE;

    if (widths[component] > wide || widths[component] == 0 || heights[component] == 0)
      ERREXIT(object, JERR_BAD_DCTSIZE);
    image[component] = rows[component];
    spare[component] = (*object->mem->alloc_sarray)(
      (j_common_ptr)object, JPOOL_IMAGE, wide, (JDIMENSION)(about->v_samp_factor * DCTSIZE));
  }
  while (object->next_scanline < height) {
    JDIMENSION group = object->next_scanline / (JDIMENSION)(object->max_v_samp_factor * DCTSIZE);

    for (component = 0; component < components; component++) {
      jpeg_component_info *about = &object->comp_info[component];
      unsigned in_group = (unsigned)(about->v_samp_factor * DCTSIZE), row;

      for (row = 0; row < in_group; row++) {
        size_t at = (size_t)group * in_group + row;

        if (at < heights[component] || row == 0)
          rows[component][row] = whole_row(
            planes[component] +
              (at < heights[component] ? at : heights[component] - 1) * widths[component],
            widths[component], spare[component][row], about->width_in_blocks * DCTSIZE);
        else
          rows[component][row] = rows[component][row - 1];
      }
    }
    jpeg_write_raw_data(object, image, (JDIMENSION)(object->max_v_samp_factor * DCTSIZE));
  }
  return end(encoder, output);
}
