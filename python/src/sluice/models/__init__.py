"""Models: what a class needs to serve one, how a model object becomes files, and how a replica makes it again."""
