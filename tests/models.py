"""Real models, narrow enough for tests: Equinox, Flax linen, Flax nnx and Haiku."""

import equinox as eqx
import flax.linen as linen
import haiku as hk
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from functions import Call, Case, Draw, case

KEY = jax.random.key(0)


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1))


def trainable(draw: Draw, model):
    """The parameters of an Equinox model in the dtype of the row, and the rest of the model."""
    return eqx.partition(draw.cast(model), eqx.is_inexact_array)


# Equinox ------------------------------------------------------------------------------------------


@case(straight_line=True)
def equinox_mlp(draw):
    params, static = trainable(draw, eqx.nn.MLP(4, 3, 5, 2, jnp.tanh, key=KEY))

    def loss(params, x, labels):
        return cross_entropy(jax.vmap(eqx.combine(params, static))(x), labels)

    return Call(loss, params, draw(6, 4), draw.integers(3, 6))


class ConvNet(eqx.Module):
    conv1: eqx.nn.Conv2d
    conv2: eqx.nn.Conv2d
    dense: eqx.nn.Linear
    pool: eqx.nn.MaxPool2d

    def __init__(self, key):
        keys = jax.random.split(key, 3)
        self.conv1 = eqx.nn.Conv2d(1, 3, 3, padding=1, key=keys[0])
        self.conv2 = eqx.nn.Conv2d(3, 4, 3, key=keys[1])
        self.dense = eqx.nn.Linear(16, 3, key=keys[2])
        self.pool = eqx.nn.MaxPool2d(2, 2)

    def __call__(self, image):
        hidden = self.pool(jax.nn.relu(self.conv1(image)))
        return self.dense(self.pool(jax.nn.relu(self.conv2(hidden))).ravel())


@case(straight_line=True)
def equinox_cnn(draw):
    params, static = trainable(draw, ConvNet(KEY))

    def loss(params, images, labels):
        return cross_entropy(jax.vmap(eqx.combine(params, static))(images), labels)

    return Call(loss, params, draw(3, 1, 12, 12), draw.integers(3, 3))


@case()
def equinox_gru(draw):
    cell, readout = eqx.nn.GRUCell(3, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY)
    params, static = trainable(draw, (cell, readout))

    def loss(params, sequences, labels):
        cell, readout = eqx.combine(params, static)

        def run(sequence):
            start = jnp.zeros(4, sequence.dtype)
            final, _ = lax.scan(lambda h, x: (cell(x, h), None), start, sequence)
            return readout(final)

        return cross_entropy(jax.vmap(run)(sequences), labels)

    return Call(loss, params, draw(3, 5, 3), draw.integers(3, 3))


@case()
def equinox_lstm(draw):
    cell, readout = eqx.nn.LSTMCell(3, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY)
    params, static = trainable(draw, (cell, readout))

    def loss(params, sequence):
        cell, readout = eqx.combine(params, static)

        def step(state, x):
            state = cell(x, state)
            return state, readout(state[0])

        start = (jnp.zeros(4, sequence.dtype), jnp.zeros(4, sequence.dtype))
        _, predictions = lax.scan(step, start, sequence[:-1])
        return jnp.mean((predictions - sequence[1:]) ** 2)

    return Call(loss, params, draw(6, 3))


@case(has_aux=True, straight_line=True)
def equinox_batch_norm_state(draw):
    class Net(eqx.Module):
        dense: eqx.nn.Linear
        norm: eqx.nn.BatchNorm
        readout: eqx.nn.Linear

        def __call__(self, x, state):
            hidden, state = self.norm(self.dense(x), state)
            return self.readout(jnp.tanh(hidden)), state

    model, state = eqx.nn.make_with_state(
        lambda: Net(
            eqx.nn.Linear(3, 4, use_bias=False, key=KEY),
            eqx.nn.BatchNorm(4, "batch", mode="batch"),
            eqx.nn.Linear(4, 2, key=KEY),
        )
    )()
    params, static = trainable(draw, model)

    def loss(params, state, x, y):
        model = eqx.combine(params, static)
        batched = jax.vmap(model, in_axes=(0, None), out_axes=(0, None), axis_name="batch")
        predictions, state = batched(x, state)
        return jnp.mean((predictions - y) ** 2), state

    return Call(loss, params, draw.cast(state), draw(5, 3), draw(5, 2))


class Attention(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP

    def __init__(self, size, key):
        keys = jax.random.split(key)
        self.attention = eqx.nn.MultiheadAttention(2, size, key=keys[0])
        self.norm1, self.norm2 = eqx.nn.LayerNorm(size), eqx.nn.LayerNorm(size)
        self.mlp = eqx.nn.MLP(size, size, 2 * size, 1, jax.nn.gelu, key=keys[1])

    def __call__(self, x, mask=None):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y, mask)
        return x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))


@case()
def equinox_attention_block(draw):
    params, static = trainable(draw, Attention(4, KEY))

    def loss(params, x, y):
        return jnp.mean((jax.vmap(eqx.combine(params, static))(x) - y) ** 2)

    return Call(loss, params, draw(2, 3, 4), draw(2, 3, 4))


@case()
def equinox_vit(draw):
    class ViT(eqx.Module):
        patch: eqx.nn.Conv2d
        token: jax.Array
        position: jax.Array
        blocks: list
        head: eqx.nn.Linear

        def __call__(self, image):
            x = self.patch(image).reshape(4, -1).T
            x = jnp.concatenate([self.token, x]) + self.position
            for block in self.blocks:
                x = block(x)
            return self.head(x[0])

    keys = jax.random.split(KEY, 4)
    model = ViT(
        eqx.nn.Conv2d(3, 4, 4, 4, key=keys[0]),
        draw(1, 4),
        draw(5, 4),
        [Attention(4, keys[1]), Attention(4, keys[2])],
        eqx.nn.Linear(4, 3, key=keys[3]),
    )
    params, static = trainable(draw, model)

    def loss(params, images, labels):
        return cross_entropy(jax.vmap(eqx.combine(params, static))(images), labels)

    return Call(loss, params, draw(2, 3, 8, 8), draw.integers(3, 2))


@case(straight_line=True)
def equinox_unet(draw):
    class UNet(eqx.Module):
        down: list
        middle: eqx.nn.Conv2d
        up: list
        merge: list
        out: eqx.nn.Conv2d

        def __init__(self, key):
            keys = jax.random.split(key, 8)
            conv, transposed = eqx.nn.Conv2d, eqx.nn.ConvTranspose2d
            self.down = [
                conv(1, 2, 3, padding=1, key=keys[0]),
                conv(2, 3, 3, padding=1, key=keys[1]),
            ]
            self.middle = conv(3, 4, 3, padding=1, key=keys[2])
            self.up = [transposed(4, 3, 2, 2, key=keys[3]), transposed(3, 2, 2, 2, key=keys[4])]
            self.merge = [
                conv(6, 3, 3, padding=1, key=keys[5]),
                conv(4, 2, 3, padding=1, key=keys[6]),
            ]
            self.out = conv(2, 1, 1, key=keys[7])

        def __call__(self, x):
            skips = []
            for conv in self.down:
                x = jax.nn.silu(conv(x))
                skips.append(x)
                x = eqx.nn.AvgPool2d(2, 2)(x)
            x = jax.nn.silu(self.middle(x))
            for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
                x = jax.nn.silu(merge(jnp.concatenate([up(x), skip])))
            return self.out(x)

    params, static = trainable(draw, UNet(KEY))

    def loss(params, noisy, clean):
        return jnp.mean((jax.vmap(eqx.combine(params, static))(noisy) - clean) ** 2)

    return Call(loss, params, draw(2, 1, 8, 8), draw(2, 1, 8, 8))


@case(has_aux=True, straight_line=True)
def equinox_vae(draw):
    encoder, decoder = (
        eqx.nn.MLP(6, 4, 5, 1, jnp.tanh, key=KEY),
        eqx.nn.MLP(2, 6, 5, 1, jnp.tanh, key=KEY),
    )
    params, static = trainable(draw, (encoder, decoder))

    def loss(params, x, key):
        encoder, decoder = eqx.combine(params, static)
        mean, log_variance = jnp.split(jax.vmap(encoder)(x), 2, axis=-1)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        sample = mean + jnp.exp(0.5 * log_variance) * noise
        logits = jax.vmap(decoder)(sample)
        likelihood = -jnp.mean(jnp.sum(jnp.logaddexp(0.0, logits) - x * logits, axis=-1))
        divergence = 0.5 * jnp.mean(jnp.sum(jnp.exp(log_variance) + mean**2 - log_variance, -1))
        return divergence - likelihood, {"divergence": divergence, "sample": sample}

    return Call(loss, params, jax.nn.sigmoid(draw(4, 6)), KEY)


# Plain JAX ----------------------------------------------------------------------------------------


def conv(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def batch_norm(x, scale, shift):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(variance + 1e-3) * scale + shift


@case()
def resnet18(draw):
    width = 2

    def norm(channels):
        return draw.positive(channels), draw(channels, scale=0.1)

    def kernel(size, inputs, outputs):
        return draw(size, size, inputs, outputs, scale=(size * size * inputs) ** -0.5)

    blocks, inputs = [], width
    for stage, outputs in enumerate([width, 2 * width, 4 * width, 8 * width]):
        for index in range(2):
            stride = 2 if stage and not index else 1
            block = {
                "conv1": kernel(3, inputs, outputs),
                "norm1": norm(outputs),
                "conv2": kernel(3, outputs, outputs),
                "norm2": norm(outputs),
            }
            if stride == 2:
                block["project"] = kernel(1, inputs, outputs)
                block["norm"] = norm(outputs)
            blocks.append(block)
            inputs = outputs
    params = {"stem": kernel(3, 3, width), "norm": norm(width), "blocks": blocks}
    params["dense"] = draw(inputs, 3, scale=inputs**-0.5)

    def loss(params, images, labels):
        x = jax.nn.relu(batch_norm(conv(images, params["stem"]), *params["norm"]))
        for block in params["blocks"]:
            stride = 2 if "project" in block else 1
            y = jax.nn.relu(batch_norm(conv(x, block["conv1"], stride), *block["norm1"]))
            y = batch_norm(conv(y, block["conv2"]), *block["norm2"])
            if "project" in block:
                x = batch_norm(conv(x, block["project"], stride), *block["norm"])
            x = jax.nn.relu(x + y)
        return cross_entropy(x.mean((1, 2)) @ params["dense"], labels)

    return Call(loss, params, draw(3, 16, 16, 3), draw.integers(3, 3))


@case(straight_line=True)
def gpt(draw):
    size, heads, vocabulary = 4, 2, 5

    def block():
        return {
            "qkv": draw(size, 3 * size, scale=0.5),
            "out": draw(size, size, scale=0.5),
            "in": draw(size, 4 * size, scale=0.5),
            "down": draw(4 * size, size, scale=0.25),
            "norm1": draw.positive(size),
            "norm2": draw.positive(size),
        }

    params = {
        "embedding": draw(vocabulary, size),
        "position": draw(6, size),
        "blocks": [block() for _ in range(2)],
        "norm": draw.positive(size),
    }

    def norm(x, scale):
        x = x - x.mean(-1, keepdims=True)
        return x * lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-3) * scale

    def attend(x, block):
        q, k, v = jnp.split(x @ block["qkv"], 3, axis=-1)
        q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape) @ block["out"]

    def loss(params, tokens):
        x = params["embedding"][tokens[:, :-1]] + params["position"][: tokens.shape[1] - 1]
        for block in params["blocks"]:
            x = x + attend(norm(x, block["norm1"]), block)
            x = x + jax.nn.gelu(norm(x, block["norm2"]) @ block["in"]) @ block["down"]
        return cross_entropy(norm(x, params["norm"]) @ params["embedding"].T, tokens[:, 1:])

    return Call(loss, params, draw.integers(vocabulary, 2, 6))


@case(straight_line=True)
def mixture_of_experts(draw):
    experts, chosen = 4, 2
    params = {
        "router": draw(3, experts),
        "in": draw(experts, 3, 5, scale=0.5),
        "out": draw(experts, 5, 3, scale=0.5),
    }

    def loss(params, x, y):
        scores, indices = lax.top_k(x @ params["router"], chosen)
        gates = jax.nn.softmax(scores)
        hidden = jax.nn.silu(jnp.einsum("ti,teih->teh", x, params["in"][indices]))
        outputs = jnp.einsum("teh,teho->teo", hidden, params["out"][indices])
        probabilities = jax.nn.softmax(x @ params["router"]).mean(0)
        load = jnp.zeros(experts, x.dtype).at[indices.ravel()].add(1.0) / indices.size
        balance = experts * jnp.sum(probabilities * load)
        return jnp.mean((jnp.einsum("te,teo->to", gates, outputs) - y) ** 2) + 0.1 * balance

    return Call(loss, params, draw(6, 3), draw(6, 3))


@case(straight_line=True)
def graph_convolution(draw):
    senders = jnp.asarray([0, 1, 2, 3, 4, 0, 2, 4])
    receivers = jnp.asarray([1, 2, 3, 4, 0, 2, 0, 1])

    def loss(params, nodes, labels):
        ones = jnp.ones(len(senders), nodes.dtype)
        degree = 1.0 + jax.ops.segment_sum(ones, receivers, num_segments=5)
        for w in params:
            messages = (nodes @ w)[senders] * lax.rsqrt(degree[senders] * degree[receivers])[
                :, None
            ]
            nodes = jnp.tanh(nodes @ w + jax.ops.segment_sum(messages, receivers, num_segments=5))
        return cross_entropy(nodes, labels)

    return Call(loss, [draw(3, 4), draw(4, 2)], draw(5, 3), draw.integers(2, 5))


# Flax and Haiku -----------------------------------------------------------------------------------


@case(has_aux=True, straight_line=True)
def flax_linen_convolutional(draw):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x, train):
            x = linen.Conv(3, (3, 3), use_bias=False)(x)
            x = linen.BatchNorm(use_running_average=not train)(x)
            x = linen.max_pool(linen.relu(x), (2, 2), (2, 2)).reshape(len(x), -1)
            x = linen.Dropout(0.5, deterministic=not train)(x)
            return linen.Dense(3)(x)

    model, images = Net(), draw(3, 6, 6, 1)
    variables = draw.cast(model.init(KEY, images, False))

    def loss(params, statistics, images, labels, key):
        logits, updated = model.apply(
            {"params": params, "batch_stats": statistics},
            images,
            True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return cross_entropy(logits, labels), updated

    return Call(
        loss, variables["params"], variables["batch_stats"], images, draw.integers(3, 3), KEY
    )


@case()
def flax_linen_recurrent(draw):
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.RNN(linen.GRUCell(3, param_dtype=x.dtype))(x))

    model, x = Net(), draw(2, 4, 2)
    params = draw.cast(model.init(KEY, x))
    return Call(
        lambda params, x, y: jnp.mean((model.apply(params, x) - y) ** 2), params, x, x[:, :, :1]
    )


@case(straight_line=True)
def flax_nnx(draw):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.LayerNorm(4, rngs=rngs)
            self.second = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.second(jnp.tanh(self.norm(self.first(x))))

    graph, params = nnx.split(Net(nnx.Rngs(0)), nnx.Param)

    def loss(params, x, y):
        return jnp.mean((nnx.merge(graph, params)(x) - y) ** 2)

    return Call(loss, draw.cast(params), draw(4, 3), draw(4, 2))


@case(has_aux=True, straight_line=True)
def haiku(draw):
    def forward(x, train):
        x = hk.Linear(4, with_bias=False)(x)
        x = jax.nn.relu(hk.BatchNorm(True, True, 0.9)(x, train))
        x = hk.dropout(hk.next_rng_key(), 0.3, x)
        return hk.Linear(2)(x)

    model = hk.transform_with_state(forward)
    params, state = model.init(KEY, draw(6, 3), True)

    def loss(params, state, key, x, y):
        predictions, state = model.apply(params, state, key, x, True)
        return jnp.mean((predictions - y) ** 2), state

    return Call(loss, params, state, KEY, draw(6, 3), draw(6, 2))


MODELS = {row.name: row for row in list(globals().values()) if isinstance(row, Case)}
