/* Decodes a window of a JPEG as TensorFlow's DecodeAndCropJpeg does: rows above are passed over (their Huffman code is
   read, nothing else), columns beside it are not transformed, rows below are not read. RGB, the fast DCT and the smooth
   chroma that TensorFlow takes unless it is told otherwise. */

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

struct errors {
  struct jpeg_error_mgr base;
  jmp_buf leave;
};

static void fail(j_common_ptr info) { longjmp(((struct errors *)info->err)->leave, 1); }
static void count_warning(j_common_ptr info, int level) { info->err->num_warnings += level < 0; }

/* out: height x width x 3 bytes. Returns 0, or -1 for what is no readable JPEG. */
int decode_window(const unsigned char *encoded, unsigned long length, int top, int left, int height, int width,
                  unsigned char *out) {
  struct jpeg_decompress_struct info;
  struct errors errors;
  unsigned char *volatile line = NULL;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = fail;
  errors.base.emit_message = count_warning;
  if (setjmp(errors.leave)) {
    jpeg_destroy_decompress(&info);
    free(line);
    return -1;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, (unsigned char *)encoded, length);
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  info.dct_method = JDCT_IFAST;
  info.do_fancy_upsampling = TRUE;
  jpeg_start_decompress(&info);
  JDIMENSION begin = left, columns = width;
  if (columns < info.output_width) jpeg_crop_scanline(&info, &begin, &columns);
  line = malloc((size_t)columns * 3);
  if (top) jpeg_skip_scanlines(&info, top);
  for (int row = 0; row < height; row++) {
    JSAMPROW to = line;
    jpeg_read_scanlines(&info, &to, 1);
    memcpy(out + (size_t)row * width * 3, line + (size_t)(left - begin) * 3, (size_t)width * 3);
  }
  if (info.output_scanline < info.output_height) jpeg_skip_scanlines(&info, info.output_height - info.output_scanline);
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  free(line);
  return errors.base.num_warnings ? -1 : 0;
}

/* Reads the Huffman code of the whole picture into frequencies, and makes no pixels of them. Returns as above. */
int read_frequencies(const unsigned char *encoded, unsigned long length) {
  struct jpeg_decompress_struct info;
  struct errors errors;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = fail;
  errors.base.emit_message = count_warning;
  if (setjmp(errors.leave)) {
    jpeg_destroy_decompress(&info);
    return -1;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, (unsigned char *)encoded, length);
  jpeg_read_header(&info, TRUE);
  jpeg_read_coefficients(&info);
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return errors.base.num_warnings ? -1 : 0;
}
