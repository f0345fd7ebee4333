"""Steps and rules of the flows; whoever imports any of them loads weights safely from then on, as do its children."""

import os

from tasks.weights.isolation import load_weights_safely

load_weights_safely(os.environ)
