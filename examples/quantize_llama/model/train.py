#!/usr/bin/env python3
"""Recipe of the embedded model: a byte-level Llama trained on TinyStories text.

    python3 -m pip install torch numpy
    python3 train.py --train tinystories_calib.txt --valid tinystories_eval.txt --out .

Both files hold stories separated by `<|endoftext|>`. Byte 0 takes the place of the separator and is the beginning-of-sequence
token; every other token is one byte of the text. Writes `config.json` and `model.safetensors` (bfloat16, Hugging Face names).
"""
import argparse, json, math, struct, time
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 128,
    "intermediate_size": 384, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2,
    "hidden_act": "silu", "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 0,
    "torch_dtype": "bfloat16",
}


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.heads, self.kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.head_dim = d // self.heads
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, self.kv * self.head_dim, bias=False)
        self.v_proj = nn.Linear(d, self.kv * self.head_dim, bias=False)
        self.o_proj = nn.Linear(d, d, bias=False)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        split = lambda y, n: y.view(b, t, n, self.head_dim).transpose(1, 2)
        rotate = lambda y: y * cos + torch.cat((-y[..., self.head_dim // 2:], y[..., :self.head_dim // 2]), -1) * sin
        q, k, v = rotate(split(self.q_proj(x), self.heads)), rotate(split(self.k_proj(x), self.kv)), split(self.v_proj(x), self.kv)
        k, v = (y.repeat_interleave(self.heads // self.kv, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, h = c["hidden_size"], c["intermediate_size"]
        self.gate_proj, self.up_proj, self.down_proj = nn.Linear(d, h, bias=False), nn.Linear(d, h, bias=False), nn.Linear(h, d, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(c["hidden_size"])), c["rms_norm_eps"]

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(c), Attention(c)
        self.post_attention_layernorm, self.mlp = RMSNorm(c), Mlp(c)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.norm = RMSNorm(c)
        half = c["hidden_size"] // c["num_attention_heads"] // 2
        angle = torch.outer(torch.arange(c["max_position_embeddings"]).float(), c["rope_theta"] ** (-torch.arange(half).float() / half))
        self.register_buffer("cos", torch.cat((angle, angle), -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat((angle, angle), -1).sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                shrink = math.sqrt(2 * c["num_hidden_layers"]) if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(p, std=0.02 / shrink if "embed" in name else 1 / math.sqrt(p.shape[1]) / shrink)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)


def load(path):
    """The text as one byte stream, a 0 before every story, and the offsets of these zeros."""
    stories = [s.strip() for s in open(path, "rb").read().split(b"<|endoftext|>")]
    data = np.frombuffer(b"".join(b"\0" + s for s in stories if s) + b"\0", dtype=np.uint8)
    return torch.from_numpy(data.astype(np.int64)), np.flatnonzero(data[:-1] == 0)


def batches(data, starts, batch, length, rng):
    """Windows that begin at a story half of the time and anywhere otherwise."""
    while True:
        at = np.where(rng.random(batch) < 0.5, rng.choice(starts, batch), rng.integers(0, len(data), batch))
        at = np.minimum(at, len(data) - length - 1)
        w = torch.stack([data[a:a + length + 1] for a in at])
        yield w[:, :-1], w[:, 1:]


@torch.no_grad()
def nats_per_byte(model, data, length, limit):
    n = min((len(data) - 1) // length, limit)
    x, y = data[:n * length].view(n, length), data[1:n * length + 1].view(n, length)
    total = 0.0
    for i in range(0, n, 16):
        total += F.cross_entropy(model(x[i:i + 16]).flatten(0, 1), y[i:i + 16].flatten(), reduction="sum").item()
    return total / (n * length)


def save(model, folder):
    tensors = {("" if k.startswith("lm_head") else "model.") + k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        raw = tensors[name].view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    open(f"{folder}/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + body)
    open(f"{folder}/config.json", "w").write(json.dumps(CONFIG, indent=2) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--train", required=True)
    p.add_argument("--valid", required=True)
    p.add_argument("--out", default=".")
    p.add_argument("--steps", type=int, default=5000)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--max-minutes", type=float, default=1e9, help="shortens the schedule when time runs out first")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    rng = np.random.default_rng(a.seed)
    length = CONFIG["max_position_embeddings"]
    train, starts = load(a.train)
    valid, _ = load(a.valid)
    model = Llama(CONFIG)
    fast = torch.compile(model)  # shares the parameters
    print(f"{sum(q.numel() for q in model.parameters())} parameters, {len(train)} training bytes", flush=True)
    # Muon for the matrices inside the blocks, AdamW for the rest: per step far more progress than AdamW alone at this size.
    matrices = [q for n, q in model.named_parameters() if q.dim() == 2 and "embed" not in n]
    others = [q for n, q in model.named_parameters() if q.dim() != 2 or "embed" in n]
    optimizers = [torch.optim.Muon(matrices, lr=a.lr, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW(others, lr=a.lr, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0)]
    source, began, best = batches(train, starts, a.batch, length, rng), time.time(), math.inf
    step = 0
    while True:
        progress = max(step / a.steps, (time.time() - began) / 60 / a.max_minutes)
        if step % 200 == 0 or progress >= 1:
            loss = nats_per_byte(model, valid, length, 200 if progress < 1 else 10**9)
            print(f"step {step} progress {progress:.3f} valid {loss:.4f} nats/byte, {(time.time() - began) / 60:.1f} min", flush=True)
            if loss < best:
                best = loss
                save(model, a.out)
        if progress >= 1:
            break
        for g in (g for o in optimizers for g in o.param_groups):
            g["lr"] = a.lr * min(1, (step + 1) / 100) * max(0.02, 0.5 * (1 + math.cos(math.pi * progress)))
        x, y = next(source)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(fast(x).flatten(0, 1).float(), y.flatten())
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
        step += 1


if __name__ == "__main__":
    main()
