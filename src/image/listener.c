/* See listener.h. */
#include "listener.h"

#include <jerror.h>

static void fail(j_common_ptr object)
{
  struct listener *listener = (struct listener *)object->err;

  (*object->err->format_message)(object, listener->text);
  longjmp(listener->failed, 1);
}

/* Whether a warning does not mean lost samples. */
static int is_harmless(int code)
{
  switch (code) {
  case JWRN_ADOBE_XFORM:
  case JWRN_BOGUS_ICC:
  case JWRN_EXTRANEOUS_DATA:
  case JWRN_JFIF_MAJOR:
  case JWRN_NOT_SEQUENTIAL:
  case JWRN_JPEG_EOF: /* decided by judge_end() once the picture is complete */
    return 1;
  default:
    return 0;
  }
}

static void hear(j_common_ptr object, int level)
{
  struct listener *listener = (struct listener *)object->err;

  if (level >= 0)
    return; /* a trace message */
  listener->warnings++;
  if (object->err->msg_code == JWRN_JPEG_EOF)
    listener->cut = 1;
  if (is_harmless(object->err->msg_code))
    return;
  if (listener->losses++ == 0)
    (*object->err->format_message)(object, listener->text);
}

static void say_nothing(j_common_ptr object)
{
  (void)object;
}

struct jpeg_error_mgr *fp_listen(struct listener *listener)
{
  jpeg_std_error(&listener->base);
  listener->base.error_exit = fail;
  listener->base.emit_message = hear;
  listener->base.output_message = say_nothing;
  listener->warnings = 0;
  listener->losses = 0;
  listener->cut = 0;
  listener->text[0] = 0;
  return &listener->base;
}
