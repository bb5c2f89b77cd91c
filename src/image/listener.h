/*
 * Error manager shared by the JPEG encoder and decoder. It receives every warning with its code and
 * leaves by longjmp after an error.
 */
#ifndef FRAMEPRESS_LISTENER_H
#define FRAMEPRESS_LISTENER_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

/* FULL: the caller's buffer is too small. */
enum { DONE = 0, FAILED = 1, FULL = 2 };

/* The error manager of one libjpeg object. */
struct listener {
  struct jpeg_error_mgr base;
  jmp_buf failed;
  /* Number of warnings, and how many of them mean lost samples. */
  unsigned warnings;
  unsigned losses;
  /* Whether the file ended before its end marker. */
  int cut;
  /* Message of the first loss or of the error. */
  char text[JMSG_LENGTH_MAX];
};

/* Resets a listener. The result is the `err` member of a libjpeg object. */
struct jpeg_error_mgr *fp_listen(struct listener *listener);

#endif
