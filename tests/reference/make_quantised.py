"""Writes fixtures/reference/quantised.safetensors: what bitsandbytes makes of small weights and activations, on a CPU.

    python tests/reference/make_quantised.py fixtures/reference/quantised.safetensors

Versions: tests/reference/requirements.txt, and bitsandbytes 0.50.2, whose CPU kernels and plain PyTorch forms are called here
through its public functions. Nothing of FedReplay is used.
"""

import sys

import bitsandbytes.functional as F
import torch
from bitsandbytes.autograd._functions import MatmulLtState, MatMul8bitLt
from safetensors.torch import save_file


def weight(rows, columns, seed):
    """Normal values with one row of zeros and one large value, as f32."""
    torch.manual_seed(seed)
    values = torch.randn(rows, columns) * 0.05
    values[3] = 0.0
    values[5, 7] = 4.0
    return values


def nf4(out):
    """Codes, maxima and expanded weights, without and with double quantisation; the last block is not full."""
    values = weight(36, 200, 1)
    out["nf4.weight"] = values
    out["nf4.codebook"] = F.get_4bit_type("nf4", device="cpu")
    packed, state = F.quantize_4bit(values, blocksize=64, quant_type="nf4")
    out["nf4.codes"], out["nf4.absmax"] = packed.flatten(), state.absmax
    out["nf4.expanded"] = F.dequantize_4bit(packed, state)
    values = weight(520, 64, 2)
    out["nf4_double.weight"] = values
    packed, state = F.quantize_4bit(values, blocksize=64, quant_type="nf4", compress_statistics=True)
    state.absmax = nearest_codes(values.view(-1, 64).abs().amax(1) - state.offset, state.state2)
    out["nf4_double.codes"] = packed.flatten()
    out["nf4_double.codebook"] = state.state2.code
    absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    out["nf4_double.absmax"] = absmax
    out["nf4_double.expanded"] = F.dequantize_4bit(packed, state)


def nearest_codes(values, state):
    """The codes of the nearest values, as bitsandbytes' CUDA kernel finds them; its CPU kernel misses some by one."""
    scaled = torch.cat([block / most for block, most in zip(values.split(state.blocksize), state.absmax)])
    return (scaled[:, None] - state.code).abs().argmin(1).to(torch.uint8)


def llm_int8(out):
    """A weight's codes, and products with activations of which two columns hold outliers, in f32 and bf16."""
    values = weight(48, 80, 3).half()
    codes, maxima, _ = F.int8_vectorwise_quant(values)
    out["int8.weight"], out["int8.codes"], out["int8.absmax"] = values, codes, maxima
    torch.manual_seed(4)
    inputs = torch.randn(32, 80)
    inputs[2, 11], inputs[9, 40], inputs[9, 11], inputs[4, 5] = 9.0, -30.0, 6.0, 5.99
    bias = torch.randn(48)
    out["llm_int8.input"], out["llm_int8.bias"] = inputs, bias
    for name, kind in [("f32", torch.float32), ("bf16", torch.bfloat16)]:
        x = inputs.to(kind)
        state = MatmulLtState()
        state.threshold, state.has_fp16_weights = 6.0, False
        state.CB, state.SCB = codes, maxima
        with torch.no_grad():
            out[f"llm_int8.output_{name}"] = MatMul8bitLt.apply(x, None, None, bias.to(kind), state)
        # Without the split, to show that the outliers matter.
        state.threshold = 0.0
        with torch.no_grad():
            out[f"llm_int8.unsplit_{name}"] = MatMul8bitLt.apply(x, None, None, bias.to(kind), state)


def main():
    out = {}
    nf4(out)
    llm_int8(out)
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, sys.argv[1])
    print("\n".join(f"{name} {tuple(t.shape)} {t.dtype}" for name, t in out.items()))


if __name__ == "__main__":
    main()
