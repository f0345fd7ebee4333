"""Files to pictures and back: images, videos and zips of images, all of them hostile until decoded."""
