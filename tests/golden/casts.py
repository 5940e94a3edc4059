"""Conversions between dtypes; generate.py calls casts."""
import numpy as np
import torch
from safetensors.torch import save_file

from case_file import INF, NAN



def casts(folder):
    """Bit patterns: in -> to_bf16, to_f16 (NaN: any NaN), and what integers and bools become."""
    bits = [0x00000000, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001,
            0x7F800001, 0x7FFFFFFF,                          # NaNs whose low bits alone tell them from infinity
            0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001,  # ties and near ties of bf16
            0x3F801000, 0x3F803000, 0x3F800FFF, 0x3F801001,  # the same for f16
            0x7F7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0xFF7FFFFF,  # around the largest bf16
            0x477FE000, 0x477FEFFF, 0x477FF000, 0xC77FF000,  # around the largest f16, 65504 and 65520
            0x38800000, 0x387FFFFF, 0x387FE000, 0x387FF000,  # around the smallest normal f16
            0x33800000, 0x33000000, 0x33000001, 0x32FFFFFF,  # around the smallest f16 and its half
            0x33C00000, 0x34200000, 0x34600000, 0xB3C00000,  # ties between subnormals of f16
            0x00800000, 0x007FFFFF, 0x00000001, 0x00008000, 0x00018000, 0x80008001]  # subnormals of f32 and bf16
    generator = np.random.default_rng(7)
    bits += generator.integers(0, 2**32, 400, dtype=np.uint64).tolist()  # any bits
    bits += generator.integers(0x33000000, 0x47800000, 400).tolist()     # the range of f16
    values = torch.from_numpy(np.array(bits, dtype=np.uint32).view(np.float32))
    tensors = {"in": values, "to_bf16": values.bfloat16(), "to_f16": values.half(), "to_f64": values.double(),
               "to_bool": values != 0}
    fractions = torch.tensor([-3.9, -1.5, -0.99, -0.0, 0.5, 1.999, 2.5, 100.7, 254.999], dtype=torch.float32)
    tensors |= {"fractions": fractions, "fractions_to_i64": fractions.long(), "fractions_to_i32": fractions.int(),
                "positives": fractions.clamp(min=0), "positives_to_u8": fractions.clamp(min=0).byte()}
    integers = torch.tensor([0, 1, -1, 2**24 + 1, 2**24 + 3, -(2**31), 2**53 + 1, 2**62 + 2**38, 2**63 - 1])
    tensors |= {"integers": integers, "integers_to_f32": integers.float(), "integers_to_f64": integers.double(),
                "integers_to_bool": integers.bool()}
    doubles = torch.tensor([0.1, 1 / 3, 1 + 2**-24, 1 + 3 * 2**-24, 1e40, -1e40, 1e-46, 1e-42, NAN, INF], dtype=torch.float64)
    tensors |= {"doubles": doubles, "doubles_to_f32": doubles.float()}
    # every f16 and, sparsely, bf16 pattern widened to f32
    halves = torch.from_numpy(np.arange(0, 65536, 37, dtype=np.uint16).view(np.int16))
    tensors |= {"f16": halves.clone().view(torch.float16), "f16_to_f32": halves.view(torch.float16).float(),
                "bf16": halves.clone().view(torch.bfloat16), "bf16_to_f32": halves.view(torch.bfloat16).float()}
    save_file(tensors, str(folder / "casts.safetensors"))
