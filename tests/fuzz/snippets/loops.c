int sum = 0;
for (int i = 0; i < 4; ++i) {
  if (i != 2) sum += i * cached_block_len;
  for (int j = i; j >= 0; j -= 1) { float x = sum / 3.5f; sum = (int)x + 1; }
}
return sum;
