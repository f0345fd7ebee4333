"""What the disks need not keep: what there is, what of it may go, and the report."""
