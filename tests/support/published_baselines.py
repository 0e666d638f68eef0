"""BERT, MAMBA and the embedder in PyTorch, from the formulas, under the published names.

The layers of BERT are PyTorch's own, as in the published code.
"""

import torch
from torch import nn
from torch.nn import functional

PAD, SEP = 0, 4


class Embedder(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, width = config.hidden_size, config.reduced_size or config.hidden_size
        self.narrow = bool(config.reduced_size)
        self.token = nn.Embedding(config.vocab_size, width, padding_idx=0)
        self.position = nn.Embedding(config.max_length, width)
        self.sentence = nn.Embedding(3, d, padding_idx=0)
        if self.narrow:
            self.tok_expander = nn.Linear(width, d, bias=False)
            self.pos_expander = nn.Linear(width, d, bias=False)

    def forward(self, ids):
        token, position = self.token(ids), self.position(torch.arange(ids.shape[1]))
        if self.narrow:
            token, position = self.tok_expander(token), self.pos_expander(position)
        segment = 1 + (torch.cumsum(ids == SEP, dim=1) > 0).long()
        return token + position + self.sentence(torch.where(ids == PAD, 0, segment))


class EfficientAttention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.query, self.output_linear = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x, hidden):
        scores = self.query(x) @ x.transpose(1, 2) / x.shape[-1] ** 0.5
        scores = scores.masked_fill(hidden[:, None], float("-inf"))
        return self.output_linear(torch.softmax(scores, dim=-1) @ x)


class Mixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        inner, self.states, self.rank = config.inner_size, config.state_size, config.step_rank
        self.taps = config.kernel_size
        self.in_proj = nn.Linear(config.hidden_size, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, self.taps, groups=inner)
        self.x_proj = nn.Linear(inner, self.rank + 2 * self.states, bias=False)
        self.dt_proj = nn.Linear(self.rank, inner)
        self.A_log = nn.Parameter(torch.randn(inner, self.states) * 0.3)
        self.D = nn.Parameter(torch.randn(inner))
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = functional.pad(u.transpose(1, 2), (self.taps - 1, 0))
        u = functional.silu(self.conv1d(u).transpose(1, 2))
        step, b, c = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        step = functional.softplus(self.dt_proj(step))
        a = -torch.exp(self.A_log)
        h = torch.zeros(*u[:, 0].shape, self.states)
        rows = []
        for t in range(u.shape[1]):
            h = torch.exp(step[:, t, :, None] * a) * h
            h = h + (step[:, t] * u[:, t])[..., None] * b[:, t, None]
            rows.append((h * c[:, t, None]).sum(-1) + self.D * u[:, t])
        return self.out_proj(torch.stack(rows, dim=1) * functional.silu(z))


class MambaLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm = nn.RMSNorm(config.hidden_size, eps=1e-5)
        self.mixer = Mixer(config)

    def forward(self, x):
        return x + self.mixer(self.norm(x))


class Layers(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.kind, self.masked = config.kind, not config.attend_to_padding
        self.embedder = Embedder(config)
        if config.kind == "transformer":
            layer = nn.TransformerEncoderLayer(
                config.hidden_size, config.num_heads, config.feed_forward, batch_first=True
            )
            self.bert_layers = nn.TransformerEncoder(
                layer, config.num_layers, enable_nested_tensor=False
            )
        elif config.kind == "efficient":
            d, f, layers = config.hidden_size, config.feed_forward, range(config.num_layers)
            self.pre_norms = nn.ModuleList([nn.RMSNorm(d) for _ in layers])
            self.attentions = nn.ModuleList([EfficientAttention(d) for _ in layers])
            self.post_norms = nn.ModuleList([nn.RMSNorm(d) for _ in layers])
            self.feed_forward = nn.ModuleList(
                [nn.Sequential(nn.Linear(d, f), nn.SiLU(), nn.Linear(f, d)) for _ in layers]
            )
        elif config.kind == "mamba":
            self.mamba_layers = Layers([MambaLayer(config) for _ in range(config.num_layers)])
        elif config.num_layers:
            self.taps = config.kernel_size
            self.conv1d = nn.Conv1d(
                config.hidden_size, config.hidden_size, self.taps, groups=config.hidden_size
            )

    def forward(self, ids):
        x = self.embedder(ids)
        if self.kind == "transformer":
            return self.bert_layers(x, src_key_padding_mask=(ids == PAD) if self.masked else None)
        if self.kind == "efficient":
            hidden = (ids == PAD) & self.masked
            for pre, attention, post, dense in zip(
                self.pre_norms, self.attentions, self.post_norms, self.feed_forward, strict=True
            ):
                x = pre(x)
                x = post(x + attention(x, hidden))
                x = x + dense(x)
        elif self.kind == "mamba":
            for layer in self.mamba_layers.layers:
                x = layer(x)
        elif hasattr(self, "conv1d"):
            x = functional.pad(x.transpose(1, 2), (self.taps - 1, 0))
            x = self.conv1d(x).transpose(1, 2)
        return x


class Classifier(nn.Module):
    def __init__(self, config, num_labels):
        super().__init__()
        self.pooled, self.masked = config.pooled, not config.attend_to_padding
        self.model = Backbone(config)
        self.classifier = nn.Linear(config.hidden_size, num_labels)
        for parameter in self.parameters():  # Nothing may be 0 or 1 by chance.
            nn.init.normal_(parameter, 0.1, 0.3)

    def forward(self, ids):
        x = self.model(ids)
        if not self.pooled:
            return self.classifier(x[:, 0])
        real = (ids != PAD if self.masked else torch.ones_like(ids)).float()[..., None]
        return self.classifier(torch.sqrt((x**2 * real).sum(1) / real.sum(1)))
