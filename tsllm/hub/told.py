"""Names in the folder of a forecaster that is told something; light to import."""

CONTEXT_FILE = "context.json"
BASE, READER = "base", "reader"
RULES, LEARNED = "rules", "learned"
READER_FILES = ("model.safetensors", "reader.json")
SPOKEN_FILE = "effects.json"  # of a language model that says effects
