# SPDX-License-Identifier: MIT
"""Writes a Llama model as one of twice the width that computes the same: the blocks of k-quants hold 256 weights of a row, and small models
have narrower ones.

The residual stream is turned by a random matrix with orthonormal columns, into which the gains of the norms go. Neurons of the MLP are
there twice, with half the weight each, until their number is a multiple of 256."""
import json

import numpy as np

from interop import read_tensors


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        values = np.ascontiguousarray(values, dtype=np.float32)
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def widen_model(model, out):
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    old = dict(read_tensors(model))
    width, neurons = config["hidden_size"], config["intermediate_size"]
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((2 * width, width)))[0]
    twice = np.arange(-(-neurons // 256) * 256) % neurons
    share = 1.0 / np.bincount(twice, minlength=neurons)[twice]
    ones = np.ones(2 * width)

    def reads(weight, gain):  # the norm of a stream twice as wide is smaller by sqrt(2)
        return (weight * gain) @ turn.T / np.sqrt(2)

    embedding = old.get("model.embed_tokens.weight", old.get("lm_head.weight"))
    head = old.get("lm_head.weight", embedding)
    new = {
        "model.embed_tokens.weight": embedding @ turn.T,
        "model.norm.weight": ones,
        "lm_head.weight": reads(head, old["model.norm.weight"]),
    }
    for block in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{block}."
        get = lambda name: old[prefix + name + ".weight"]
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            new[prefix + name + ".weight"] = reads(get(name), get("input_layernorm"))
        new[prefix + "self_attn.o_proj.weight"] = turn @ get("self_attn.o_proj")
        for name in ("mlp.gate_proj", "mlp.up_proj"):
            new[prefix + name + ".weight"] = reads(get(name), get("post_attention_layernorm"))[twice]
        new[prefix + "mlp.down_proj.weight"] = turn @ (get("mlp.down_proj")[:, twice] * share)
        for name in ("input_layernorm", "post_attention_layernorm"):
            new[prefix + name + ".weight"] = ones
    config.update(
        head_dim=config.get("head_dim") or width // config["num_attention_heads"],
        hidden_size=2 * width,
        intermediate_size=len(twice),
        rms_norm_eps=config["rms_norm_eps"] / 2,
        tie_word_embeddings=False,
        torch_dtype="float32",
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    write_safetensors(out / "model.safetensors", new)
