"""Images that a person corrects in another tool, with the suggestions of a model in them."""
