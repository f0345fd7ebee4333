import os

# A net under the readers of headers, should OpenCV read one differently: it decodes up to a thousand million pixels
# otherwise. It looks at this once, when it is loaded, and everything here imports this package before. The number is
# the largest that any reader accepts, `tasks.media.image_header.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "178000000")
