"""An environment -> an image that is active however it is entered."""
