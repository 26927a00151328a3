# SPDX-License-Identifier: MIT
"""Writes a Llama model in a Hugging Face folder as a GGUF file, unquantized, as llama.cpp's convert_hf_to_gguf.py does.

Other than that script it needs neither torch nor transformers, and takes a model without a tokenizer that reads bytes."""
import argparse
import json
import pathlib
import sys

import gguf
import numpy as np

from interop import read_tensors

BLOCK_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OTHER_TENSORS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16}


def paired(rows, heads):
    """Rows i and i + head_dim / 2 of each head, which rotate together, next to each other."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def gguf_name(name):
    module, kind = name.rsplit(".", 1)
    if module.startswith("model.layers."):
        block, module = module[len("model.layers.") :].split(".", 1)
        return f"blk.{block}.{BLOCK_TENSORS[module]}.{kind}"
    return f"{OTHER_TENSORS[module]}.{kind}"


def vocabulary(folder, size):
    """Tokens, scores and types. A sentencepiece tokenizer merges the pair with the highest score first."""
    byte, control, normal, unknown = gguf.TokenType.BYTE, gguf.TokenType.CONTROL, gguf.TokenType.NORMAL, gguf.TokenType.UNKNOWN
    if not (folder / "tokenizer.json").exists():
        if size != 256:
            sys.exit("a model without tokenizer.json must have the 256 bytes as its vocabulary")
        return [f"<0x{i:02X}>" for i in range(256)], [0.0] * 256, [control] + [byte] * 255
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [None] * size
    for text, i in tokenizer["model"]["vocab"].items():
        tokens[i] = text
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    for i, text in special.items():
        tokens[i] = text
    types = [control if i in special else byte if t.startswith("<0x") and t.endswith(">") and len(t) == 6 else normal for i, t in enumerate(tokens)]
    types = [unknown if t == "<unk>" else kind for t, kind in zip(tokens, types)]
    return tokens, [-float(i) for i in range(size)], types


def make_base_gguf(model, out, type):
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", heads)

    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name(model.name)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_freq_base(config.get("rope_theta", 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[type])
    tokens, scores, types = vocabulary(model, config["vocab_size"])
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix((model / "tokenizer.json").exists())

    tied = config["tie_word_embeddings"]
    for name, values in read_tensors(model):
        if name.endswith("rotary_emb.inv_freq"):
            continue
        target = gguf_name(name)
        if tied and target == "output.weight":  # the one matrix, under its other name
            target = "token_embd.weight"
        if ".attn_q." in target:
            values = paired(values, heads)
        if ".attn_k." in target:
            values = paired(values, kv_heads)
        kind = TYPES[type] if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(target, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path, help="folder with config.json and safetensors files")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--type", choices=TYPES, default="f16")
    arguments = parser.parse_args()
    make_base_gguf(arguments.model, arguments.out, arguments.type)


if __name__ == "__main__":
    main()
