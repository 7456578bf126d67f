"""Files of others, read with care: JSON, memory maps, safetensors. What is in them means something elsewhere."""
