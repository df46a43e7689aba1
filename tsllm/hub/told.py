"""Names in the folder of a forecaster that is told something; light to import."""

CONTEXT_FILE = "context.json"
BASE, READER = "base", "reader"
RULES, LEARNED, SPOKEN = "rules", "learned", "spoken"
ITSELF = "model"  # the forecaster reads the texts itself
# For messages: fields of a neural model that reads texts.
READS_ITSELF = "text_layers: 8 and text_backbone: smollm2-135m (timellm: reader: horizon and text_layers: 8)"
READER_FILES = ("model.safetensors", "reader.json")
