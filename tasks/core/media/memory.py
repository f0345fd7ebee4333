"""Memory that frames took, given back to the system."""

import ctypes


def give_back() -> None:
    """Return to the system what the allocator of the C library keeps of freed blocks; nothing where it has no way to.

    Frames are made in some threads and freed in others, and glibc then keeps most of them: gigabytes after a while.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
