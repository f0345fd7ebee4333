"""What label-images is composed of: which labels of a model are taken, and the archive and page that come of it."""
