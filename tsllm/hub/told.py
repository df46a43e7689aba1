"""Names in the folder of a forecaster that is told something; light to import."""

CONTEXT_FILE = "context.json"
BASE, READER = "base", "reader"
RULES, LEARNED, SPOKEN = "rules", "learned", "spoken"
ITSELF = "model"  # the forecaster reads the texts itself
READER_FILES = ("model.safetensors", "reader.json")
