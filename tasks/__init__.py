"""Steps and rules of the flows; whoever imports any of them loads weights safely from then on, as do its children."""

import os

from tasks.weights.isolation import load_weights_safely

load_weights_safely(os.environ)

# A net under the readers of headers, should OpenCV read one differently: it decodes up to a thousand million pixels
# otherwise. It looks at this once, when it is loaded, and everything here imports this package before. The number is
# the largest that any reader accepts, `tasks.media.image_header.MAX_PIXELS`.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "178000000")
