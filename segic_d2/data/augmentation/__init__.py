"""Random views of pictures for training. A view is drawn before a pixel is decoded."""
