"""The name of the file that makes a folder one of a text forecaster."""

SETTINGS = "text_forecaster.json"
