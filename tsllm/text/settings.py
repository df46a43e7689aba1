"""The name of the file that makes a folder one of a text forecaster."""

SETTINGS = "text_forecaster.json"
SPOKEN_SETTINGS = "effects.json"  # of a language model that says effects
