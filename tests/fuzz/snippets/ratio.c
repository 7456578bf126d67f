return max(topk_val + 3, static_cast<int>(cached_block_len * topk_ratio));
