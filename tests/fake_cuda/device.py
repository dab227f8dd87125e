"""The fake CUDA device: tensors of "cuda" have a shape, a dtype and a device; those of the CPU are real.

So decoding, tokenising, selectors and files are the library's own work on real numbers, while tower, language model,
autograd, autocast and AdamW run at any size without memory and without time. What the host reads back is invented.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry

from fake_cuda.ledger import Ledger
from fake_cuda.stand_ins import as_on_a_gpu
from fake_cuda.values import flat, follow, known, seen

aten: Any = torch.ops.aten
VIEWS = {
    *("view", "_unsafe_view", "t", "expand", "transpose", "permute", "unsqueeze", "squeeze", "select", "slice"),
    *("alias", "detach", "device", "unbind", "split", "split_with_sizes", "unfold", "as_strided", "_reshape_alias"),
    *("empty", "empty_like", "new_empty", "empty_strided", "lift_fresh", "set_", "is_same_size"),
}  # they launch no kernel
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution}
PRODUCTS |= {aten._scaled_dot_product_flash_attention, aten._scaled_dot_product_efficient_attention}
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def on_cuda(value: Any) -> bool:
    return isinstance(value, FakeTensor) and value.fake_device.type == "cuda"


class FakeCuda(TorchDispatchMode):
    """While entered, "cuda" is there. `ledger` counts."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode()
        self.ledger = Ledger()
        self._stack = ExitStack()

    def __enter__(self) -> FakeCuda:
        self._stack.enter_context(self.fake)
        self._stack.enter_context(as_on_a_gpu(self.wait, self.read_back))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def wait(self, kind: str) -> None:
        self.ledger.wait(kind)

    # --- every call of torch ---

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = flat((*args, *kwargs.values()))
        device = kwargs.get("device")
        to_cuda = device is not None and torch.device(device).type == "cuda"
        if func is torch.ops.prim.device.default and isinstance(args[0], FakeTensor):
            return args[0].fake_device
        if func in (aten.is_pinned.default, aten._pin_memory.default):
            device, kwargs, to_cuda = None, {}, False
        if not to_cuda and not any(map(on_cuda, leaves)):  # nothing of the device's: real work on the CPU
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        self.ledger.kernels += func._schema.name.removeprefix("aten::") not in VIEWS
        return self._on_device((func, args, kwargs), device is not None and not to_cuda)

    def _on_device(self, call: Call, to_host: bool) -> Any:
        func, args, kwargs = call
        if func is aten._local_scalar_dense.default:
            number = self.read_back(args[0], "item")
            with unset_fake_temporarily():
                return number.item()
        if func is aten.equal.default:
            self.wait("equal")
            return True
        if func is aten._to_copy.default and to_host:
            if kwargs.get("non_blocking"):  # into page-locked memory; who reads it must have waited otherwise
                values = seen(args[0], kwargs.get("dtype"))
                with unset_fake_temporarily():
                    return values.pin_memory()
            return self.read_back(args[0], "to the host", kwargs.get("dtype"))
        if func is aten.copy_.default and not on_cuda(args[0]):
            return self._copied_back(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default):
            return self._uploaded(call)
        if func in INDEXING:
            self._index(args[1])
        made = self._of_unknown_size(func, args, kwargs)
        return self._compute(call) if made is None else made

    @staticmethod
    def _check(func: Any, leaves: list[Any]) -> None:
        """RuntimeError for what CUDA refuses and fake tensors let pass."""
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if func._overloadpacket in PRODUCTS and len({tensor.dtype for tensor in tensors}) > 1:
            raise RuntimeError(f"{func}: dtypes differ: {', '.join(str(tensor.dtype) for tensor in tensors)}")
        host = [tensor for tensor in tensors if tensor.dim() > 0 and not on_cuda(tensor)]
        if func._schema.name.startswith("aten::_foreach") and host:
            raise RuntimeError(f"{func}: {len(host)} of {len(tensors)} tensors are the host's")

    def _compute(self, call: Call) -> Any:
        """Shapes and dtypes of the results; RuntimeError where tensors of host and device meet."""
        func, given, named = call
        args, kwargs = given, named
        leaves = flat((*args, *kwargs.values()))
        self._check(func, leaves)
        if any(isinstance(leaf, Tensor) and not isinstance(leaf, FakeTensor) for leaf in leaves):
            args, kwargs = tree_map_only(Tensor, self._as_fake, (args, kwargs))
        with self.fake:
            out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.ledger.operations += count(*args, **kwargs, out_val=out)
        for tensor in flat(out if isinstance(out, tuple | list) else (out,)):
            if on_cuda(tensor):
                self.ledger.holds(tensor.untyped_storage())
        follow(func, given, named, out)
        return out

    def _as_fake(self, tensor: Tensor) -> FakeTensor:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)

    def _made(self, shape: Any, dtype: torch.dtype) -> Tensor:
        with self.fake:
            out = torch.empty(shape, dtype=dtype, device="cuda:0")
        self.ledger.holds(out.untyped_storage())
        return out

    # --- between host and device ---

    def _uploaded(self, call: Call) -> Tensor:
        """A copy to the device, or on it."""
        func, args, kwargs = call
        source = args[0] if func is aten._to_copy.default else args[1]
        if not isinstance(source, FakeTensor):
            non_blocking = kwargs.get("non_blocking") or (func is aten.copy_.default and args[2:] == (True,))
            with unset_fake_temporarily():
                self.ledger.copied(source, bool(non_blocking))
        return self._compute(call)

    def read_back(self, tensor: Tensor, kind: str, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor's values on the host, which waits for them."""
        self.wait(kind)
        return seen(tensor, dtype)

    def _copied_back(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        with unset_fake_temporarily():
            if not (non_blocking and target.is_pinned()):
                self.wait("copy to the host")
            return target.copy_(seen(source))

    # --- results whose size follows from values: the host must learn it ---

    def _index(self, indices: Any) -> None:
        """An index from the host is copied first; a mask on the device is counted by the host."""
        for index in indices:
            if index is None:
                continue
            if not isinstance(index, FakeTensor):
                with unset_fake_temporarily():
                    self.ledger.copied(index, non_blocking=False)
            elif index.dtype in (torch.bool, torch.uint8):
                self.wait("mask as index")

    def _of_unknown_size(self, func: Any, args: Any, kwargs: Any) -> Tensor | tuple[Tensor, ...] | None:
        first = args[0]
        if func is aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
            mask = args[1][0]
            return self._made((self._true(mask), *first.shape[mask.dim() :]), first.dtype)
        if func is aten.nonzero.default:
            self.wait("nonzero")
            return self._made((self._true(first), first.dim()), torch.int64)
        if func is aten.masked_select.default:
            self.wait("masked_select")
            return self._made((self._true(args[1]),), first.dtype)
        if func is aten.bincount.default:
            self.wait("bincount")
            return self._made((max(1, kwargs.get("minlength", args[2] if len(args) > 2 else 0)),), torch.int64)
        if func is aten._unique2.default:
            self.wait("unique")
            return tuple(self._made((first.numel(),), dtype) for dtype in (first.dtype, torch.int64, torch.int64))
        return None

    def _true(self, mask: Tensor) -> int:
        """How many are True, where the host once knew; else all."""
        values = known(mask)
        if values is None:
            return mask.numel()
        with unset_fake_temporarily():
            return int(values.count_nonzero())
