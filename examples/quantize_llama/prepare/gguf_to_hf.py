# SPDX-License-Identifier: MIT
"""Writes a Llama model in a GGUF file as a Hugging Face folder: config.json, model.safetensors in float32, tokenizer.json."""
import argparse
import json
import pathlib
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

# GGUF's names and Hugging Face's, of one block and of the rest.
BLOCK_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
OTHER_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def rotate_half_order(weight, heads):
    """Undoes the order of rows in which GGUF stores q and k.

    GGUF's Llama rotates neighbours, rows (2i, 2i + 1) of each head; Hugging Face's rotates row i with row i + head_dim / 2.
    """
    pairs = weight.reshape(heads, -1, 2, weight.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))


def shortest(value):
    """The float32 number in as few digits as it takes, 1e-05 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def read_config(field, tensors):
    heads = field("llama.attention.head_count")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),  # GGUF gives the sizes of a matrix the other way round
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv", heads),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": shortest(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": shortest(field("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": field("tokenizer.ggml.bos_token_id", None),
        "eos_token_id": field("tokenizer.ggml.eos_token_id", None),
        "torch_dtype": "float32",
    }
    return {key: value for key, value in config.items() if value is not None}


def read_tensors(reader, config):
    heads = {"attn_q.weight": config["num_attention_heads"], "attn_k.weight": config["num_key_value_heads"]}
    tensors = {}
    for tensor in reader.tensors:
        kind, name = tensor.name, OTHER_TENSORS.get(tensor.name)
        if tensor.name.startswith("blk."):
            _, block, kind = tensor.name.split(".", 2)
            name = f"model.layers.{block}.{BLOCK_TENSORS[kind]}" if kind in BLOCK_TENSORS else None
        if name is None:
            sys.exit(f"tensor {tensor.name} has no place in a plain Llama model")
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        tensors[name] = rotate_half_order(values, heads[kind]) if kind in heads else np.ascontiguousarray(values)
    return tensors


def build_tokenizer(field):
    """Byte-level BPE. How text is split before the merges is not in the file, only its name: smollm takes digits one by one."""
    if field("tokenizer.ggml.model") != "gpt2" or field("tokenizer.ggml.pre") != "smollm":
        sys.exit("only SmolLM's tokenizer can be rebuilt; take tokenizer.json from where the model came from (--no-tokenizer)")
    tokens = field("tokenizer.ggml.tokens")
    control = 3  # token_type of what is not text
    special = [token for token, kind in zip(tokens, field("tokenizer.ggml.token_type")) if kind == control]
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("gguf", type=pathlib.Path)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--no-tokenizer", action="store_true", help="write no tokenizer.json")
    options = arguments.parse_args()

    reader = GGUFReader(options.gguf)

    def field(key, *otherwise):
        if key in reader.fields:
            return reader.fields[key].contents()
        if otherwise:
            return otherwise[0]
        sys.exit(f"{options.gguf}: {key} is missing")

    if field("general.architecture") != "llama" or field("llama.rope.scaling.type", "none") != "none":
        sys.exit(f"{options.gguf}: not a Llama model with unscaled RoPE")
    config = read_config(field, {tensor.name: tensor for tensor in reader.tensors})
    tokenizer = None if options.no_tokenizer else build_tokenizer(field)
    options.folder.mkdir(parents=True, exist_ok=True)
    save_file(read_tensors(reader, config), options.folder / "model.safetensors", metadata={"format": "pt"})
    (options.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if tokenizer:
        tokenizer.save(str(options.folder / "tokenizer.json"))


if __name__ == "__main__":
    main()
