# SPDX-License-Identifier: MIT
"""Writes a checkpoint of llama2.c (version 0, float32) as a Hugging Face folder: config.json and model.safetensors.

The file does not say which tokens begin and end a text; as its own tokenizer has them, they are taken to be 1 and 2.
"""
import argparse
import json
import pathlib
import struct
import sys

import numpy as np
from gguf_to_hf import rotate_half_order
from safetensors.numpy import save_file

HEADER = struct.Struct("<7i")


def read_config(header):
    hidden, intermediate, layers, heads, key_heads, vocabulary, context = HEADER.unpack(header)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": abs(vocabulary),
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": vocabulary > 0,  # a negative size says that the head is another matrix
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def read_tensors(config, values):
    """The tensors by their names, out of all numbers behind the header; those of all blocks lie together."""
    hidden, intermediate, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads, key_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head = hidden // heads
    at = 0

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        if at + count > len(values):
            sys.exit(f"the file ends after {len(values)} numbers, before it has {at + count}")
        at += count
        return values[at - count : at].reshape(shape)

    tensors = {"model.embed_tokens.weight": take(config["vocab_size"], hidden)}
    blocks = {
        "input_layernorm": take(layers, hidden),
        "self_attn.q_proj": take(layers, hidden, hidden),
        "self_attn.k_proj": take(layers, key_heads * head, hidden),
        "self_attn.v_proj": take(layers, key_heads * head, hidden),
        "self_attn.o_proj": take(layers, hidden, hidden),
        "post_attention_layernorm": take(layers, hidden),
        "mlp.gate_proj": take(layers, intermediate, hidden),
        "mlp.down_proj": take(layers, hidden, intermediate),
        "mlp.up_proj": take(layers, intermediate, hidden),
    }
    tensors["model.norm.weight"] = take(hidden)
    take(2, config["max_position_embeddings"] * head // 2)  # cosines and sines of RoPE, which follow from the rest
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = take(config["vocab_size"], hidden)
    if at != len(values):
        sys.exit(f"the file has {len(values)} numbers, {at} were expected")
    rotated = {"self_attn.q_proj": heads, "self_attn.k_proj": key_heads}  # neighbours there, halves of a head here
    for kind, of_blocks in blocks.items():
        for block in range(layers):
            weight = of_blocks[block]
            tensors[f"model.layers.{block}.{kind}.weight"] = rotate_half_order(weight, rotated[kind]) if kind in rotated else weight.copy()
    return tensors


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint", type=pathlib.Path)
    arguments.add_argument("folder", type=pathlib.Path)
    options = arguments.parse_args()

    data = options.checkpoint.read_bytes()
    if len(data) < HEADER.size or len(data) % 4 != 0:
        sys.exit(f"{options.checkpoint}: not a checkpoint of llama2.c")
    config = read_config(data[: HEADER.size])
    tensors = read_tensors(config, np.frombuffer(data, "<f4", offset=HEADER.size).astype(np.float32))
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, options.folder / "model.safetensors", metadata={"format": "pt"})
    (options.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
