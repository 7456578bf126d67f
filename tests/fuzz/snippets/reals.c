float x = 7.9f; int y = x; y++;  /* 8 */
x *= ceilf(sqrtf(cached_block_len)) / fmaxf(1.0f, powf(layer_count, 0.5));
double z = logf(x + 1) - expf(-x);  // real
return z > 8 || y <= x ? 100 : y + (int)(z * block_reserved_bos);
