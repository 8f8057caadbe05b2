"""Pages for people: of an evaluation, a data set, a comparison and the model card."""
