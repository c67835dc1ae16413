"""Random views of pictures for training, drawn before a pixel is decoded."""
