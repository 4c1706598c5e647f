"""One reader a layout: which images a split of an official data set lists, and of which class each is."""
