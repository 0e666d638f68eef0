"""Representative samples of a data set and the activation ranges measured on them."""
