/*
 * What the two halves of JPEG share: an error manager that hears every warning with its code, and
 * leaves by a long jump after an error.
 */
#ifndef FRAMEPRESS_LISTENER_H
#define FRAMEPRESS_LISTENER_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

/* FULL: the caller's buffer is too small. */
enum { DONE = 0, FAILED = 1, FULL = 2 };

/* The error manager of one object, for compression and decompression alike. */
struct listener {
  struct jpeg_error_mgr base;
  jmp_buf failed;
  /* Warnings, and those of them that mean lost samples. */
  unsigned warnings;
  unsigned losses;
  /* The file ended before its end marker. */
  int cut;
  /* The first loss in words, or the error. */
  char text[JMSG_LENGTH_MAX];
};

/* Makes a listener ready; the result goes into the object of libjpeg. */
struct jpeg_error_mgr *fp_listen(struct listener *listener);

#endif
