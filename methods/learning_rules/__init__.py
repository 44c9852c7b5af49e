"""Rules by which a layered classifier of images learns: back-propagation and what has been put in its place."""
