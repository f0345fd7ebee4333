"""The one table of file endings, containers and codecs that inputs may have."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


IMAGE_ENDINGS = _names(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .dib .gif .webp .tif .tiff .avif .jp2 .j2k .ppm .pgm .pbm .pnm"
)
VIDEO_ENDINGS = _names(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .flv .ogv .wmv .3gp")
# Images, too, which nothing here reads: a zip with such files gives a note to its owner.
UNREAD_ENDINGS = _names(
    ".heic .heif .hif .jxl .psd .svg .ico .tga .exr .hdr .raw .dng .cr2 .cr3 .nef .arw .raf .orf .rw2"
)
ARCHIVE_ENDINGS = _names(".zip .rar .7z .tar .tgz .gz .bz2 .xz")

# FFmpeg's names. Only containers that hold their own data: a playlist (HLS, concat, SDP) would make FFmpeg open the
# files that it names.
CONTAINERS = _names("mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpeg mpegvideo flv ogg asf h264 hevc m4v ivf")
# Of the hundreds that FFmpeg knows, those that cameras and editors write. The decoders of stills stay out: they believe
# a header that claims gigabytes, and EXR gives pixels on which swscale aborts the process.
VIDEO_CODECS = _names(
    "h264 hevc vp8 vp9 libdav1d libaom-av1 av1 mpeg1video mpeg2video mpegvideo mpeg4 msmpeg4v1 msmpeg4v2 msmpeg4 "
    "h261 h263 h263i h263p flv wmv1 wmv2 wmv3 vc1 mjpeg mjpegb prores dnxhd cfhd dvvideo ffv1 ffvhuff huffyuv utvideo "
    "magicyuv rawvideo v210 v410 qtrle cinepak svq1 svq3 rpza msrle msvideo1 indeo3 indeo4 indeo5 theora "
    "vp3 vp5 vp6 vp6a vp6f"
)
# Those that MP4 holds and browsers play: other sound is left out.
AUDIO_CODECS = _names("aac mp3 mp3float opus libopus flac")
