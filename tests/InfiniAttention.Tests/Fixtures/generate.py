"""Generates the golden cases of the options beyond the paper: python3 generate.py FOLDER (PyTorch, float64).

Computes one row, one segment and one head at a time from the formulas of docs/equations.md, with gradients by automatic differentiation.
It shares no code with the library or with the tests' oracle.
"""
import json
import math
import sys

import torch

torch.set_default_dtype(torch.float64)
BASE = dict(embed_dim=8, heads=2, kv_heads=2, head_dim=4, value_dim=4, segment=4, rule="linear", bias=False, rope_theta=None, rope_style="half",
            empty_memory="local", memory_norm=False, own_memory_projections=False, local_segments=1)
CASES = {
    "memory-norm": (dict(memory_norm=True), {}),
    "memory-norm-gated-empty": (dict(memory_norm=True, empty_memory="gated", value_dim=3), {}),
    "own-projections": (dict(own_memory_projections=True, rope_theta=50.0), {}),
    "local-segments": (dict(local_segments=2, rope_theta=50.0, rope_style="interleaved"), {}),
    "recall-everything": (dict(memory_norm=True, own_memory_projections=True, local_segments=2, heads=4, kv_heads=2, embed_dim=16, value_dim=6, bias=True,
                               rope_theta=50.0), dict(padding=True, documents=True, weights=True)),
}


def rms_norm(x):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def sigma(x):
    return torch.nn.functional.elu(x) + 1


def rotate(x, positions, o):
    """Rotates x (n, K) by its positions."""
    if o["rope_theta"] is None:
        return x
    k = x.shape[1]
    angle = positions[:, None] * o["rope_theta"] ** (-2 * torch.arange(k // 2) / k)[None]
    first, second = (slice(0, k // 2), slice(k // 2, k)) if o["rope_style"] == "half" else (slice(0, k, 2), slice(1, k, 2))
    out = torch.empty_like(x)
    out[:, first] = x[:, first] * angle.cos() - x[:, second] * angle.sin()
    out[:, second] = x[:, first] * angle.sin() + x[:, second] * angle.cos()
    return out


def run_row(o, w, x, padding, starts, writes):
    """Outputs (T, D) of a row, and M and z of each key head after its last whole segment."""
    tokens, n, group = x.shape[0], o["segment"], o["heads"] // o["kv_heads"]
    document = torch.cumsum(starts.long(), 0)
    project = lambda name: x @ w[name + ".weight"].T + (w[name + ".bias"] if o["bias"] else 0)
    q, k, v = project("q_proj"), project("k_proj"), project("v_proj")
    mq, mk = (x @ w["memory_q_proj.weight"].T, x @ w["memory_k_proj.weight"].T) if o["own_memory_projections"] else (q, k)
    head = lambda t, i, width: t[:, i * width:(i + 1) * width]
    outputs = [[None] * o["heads"] for _ in range(0, tokens, n)]
    memories = []
    for g in range(o["kv_heads"]):
        m, z = torch.zeros(o["head_dim"], o["value_dim"]), torch.zeros(o["head_dim"])
        holds = -1  # the document that the memory belongs to
        empty = True
        for s, start in enumerate(range(0, tokens, n)):
            end = min(start + n, tokens)
            seen = max(0, start - n) if o["local_segments"] == 2 else start
            key, value, memory_key = head(k, g, o["head_dim"])[seen:end], head(v, g, o["value_dim"])[seen:end], head(mk, g, o["head_dim"])[start:end]
            if o["memory_norm"]:
                memory_key = w["memory_norm.key_scale"][g] * rms_norm(memory_key)
            for h in range(g * group, (g + 1) * group):
                query = rotate(head(q, h, o["head_dim"])[start:end], torch.arange(start - seen, end - seen), o)
                scores = query @ rotate(key, torch.arange(end - seen), o).T / math.sqrt(o["head_dim"])
                i, j = torch.arange(start, end)[:, None], torch.arange(seen, end)[None]
                visible = (j <= i) & (document[j] == document[i]) & ~padding[j]
                blind = ~visible.any(1, keepdim=True)
                local = torch.softmax(scores.masked_fill(~visible & ~blind, -math.inf), 1).masked_fill(blind, 0) @ value
                memory_query = head(mq, h, o["head_dim"])[start:end]
                if o["memory_norm"]:
                    memory_query = w["memory_norm.query_scale"][h] * rms_norm(memory_query)
                gate = torch.sigmoid(w["gate"][h])
                if empty:
                    mixed = [local[t] if o["empty_memory"] == "local" else (1 - gate) * local[t] for t in range(end - start)]
                else:
                    read = sigma(memory_query) @ m / (sigma(memory_query) @ z)[:, None]
                    if o["memory_norm"]:
                        read = w["memory_norm.read_weight"][h] * rms_norm(read)
                    mixed = []
                    for t in range(end - start):
                        if document[start + t] == holds:
                            mixed.append(gate * read[t] + (1 - gate) * local[t])
                        else:
                            mixed.append(local[t] if o["empty_memory"] == "local" else (1 - gate) * local[t])
                outputs[s][h] = torch.stack(mixed)
            if end - start < n:
                continue
            last = document[end - 1]
            if last != holds:
                m, z, empty = torch.zeros_like(m), torch.zeros_like(z), True
            written = writes[start:end] * ((document[start:end] == last) & ~padding[start:end])
            feature, own = sigma(memory_key), value[start - seen:]
            if o["rule"] == "delta" and not empty:
                own = own - feature @ m / (feature @ z)[:, None]
            m = m + feature.T @ (written[:, None] * own)
            z = z + feature.T @ written
            holds, empty = last, empty and bool((written == 0).all())
        memories.append((m, z))
    heads = torch.cat([torch.cat(segment, 1) for segment in outputs])
    out = heads @ w["o_proj.weight"].T + (w["o_proj.bias"] if o["bias"] else 0)
    return out, torch.stack([m for m, _ in memories]), torch.stack([z for _, z in memories])


def case(name, options, extras, seed):
    o = BASE | options
    torch.manual_seed(seed)
    d, h, g, k, v = (o[x] for x in ("embed_dim", "heads", "kv_heads", "head_dim", "value_dim"))
    shapes = {"q_proj.weight": (h * k, d), "k_proj.weight": (g * k, d), "v_proj.weight": (g * v, d), "o_proj.weight": (d, h * v), "gate": (h,)}
    if o["bias"]:
        shapes |= {"q_proj.bias": (h * k,), "k_proj.bias": (g * k,), "v_proj.bias": (g * v,), "o_proj.bias": (d,)}
    if o["own_memory_projections"]:
        shapes |= {"memory_q_proj.weight": (h * k, d), "memory_k_proj.weight": (g * k, d)}
    weights = {n: torch.randn(s) * (s[-1] ** -0.5 if len(s) == 2 else 0.5) for n, s in shapes.items()}
    if o["memory_norm"]:
        weights |= {"memory_norm.query_scale": 3 + torch.randn(h), "memory_norm.key_scale": 3 + torch.randn(g), "memory_norm.read_weight": 1 + 0.3 * torch.randn(h, v)}
    for t in weights.values():
        t.requires_grad_(True)
    rows, tokens = 2, 18
    x, probe = torch.randn(rows, tokens, d, requires_grad=True), torch.randn(rows, tokens, d)
    padding = torch.rand(rows, tokens) < (0.2 if extras.get("padding") else 0)
    starts = torch.rand(rows, tokens) < (0.12 if extras.get("documents") else 0)
    writes = torch.rand(rows, tokens) * 2 if extras.get("weights") else torch.ones(rows, tokens)
    results = [run_row(o, weights, x[b], padding[b], starts[b], writes[b]) for b in range(rows)]
    output, memory, normalizer = (torch.stack([r[i] for r in results]) for i in range(3))
    gradients = torch.autograd.grad((output * probe).sum(), [x, *weights.values()], allow_unused=True)
    gradients = [torch.zeros_like(t) if grad is None else grad for t, grad in zip([x, *weights.values()], gradients)]
    tensor = lambda t: {"shape": list(t.shape), "data": t.detach().double().flatten().tolist()}
    return {
        "name": name, "options": o, "weights": {n: tensor(t) for n, t in weights.items()}, "input": tensor(x), "probe": tensor(probe),
        "key_padding_mask": tensor(padding) if extras.get("padding") else None, "document_starts": tensor(starts) if extras.get("documents") else None,
        "write_weights": tensor(writes) if extras.get("weights") else None, "output": tensor(output), "memory": tensor(memory), "normalizer": tensor(normalizer),
        "grad_input": tensor(gradients[0]), "grad_weights": {n: tensor(t) for n, t in zip(weights, gradients[1:])},
    }


seed = 100
for rule in ("linear", "delta"):
    for short, (options, extras) in CASES.items():
        seed += 1
        name = f"{rule}-{short}"
        with open(f"{sys.argv[1]}/{name}.json", "w", encoding="utf-8") as file:
            json.dump(case(name, options | {"rule": rule}, extras, seed), file)
