if (cached_block_len < 50) return cached_block_len;
else if (cached_block_len < 500 && !(layer_index == 0)) { return 40; }
const int b = seq_step % 7, c = -seq_tokens / 3;
return layer_index < 2 ? cached_block_len : min(30 + b, abs(c));
