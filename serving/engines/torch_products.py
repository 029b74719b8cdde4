"""Casts the weights of matrix products to bfloat16 once, instead of in each call.

Autocast keeps a cast weight only until the call ends: for a network of 22 M parameters each call
would read 88 MB and write 44 MB before it computes anything.
"""

from typing import Any

import torch

_ATEN = torch.ops.aten
# The products that an export holds, and where their weight stands among the arguments.
_WEIGHT_AT = {
    _ATEN.linear.default: 1,
    _ATEN.conv1d.default: 1,
    _ATEN.conv2d.default: 1,
    _ATEN.convolution.default: 1,
}


def cast_products(module: torch.nn.Module) -> None:
    """Casts those weights of an exported graph that nothing but products reads; in place.

    Also takes out the export's assertions on the types of activations, which hold no more. Modules
    that are no graph are left to autocast as they are.
    """
    if not isinstance(module, torch.fx.GraphModule):
        return
    readers: dict[torch.nn.Parameter, list[bool]] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and isinstance(
            value := _attribute(module, node), torch.nn.Parameter
        ):
            readers.setdefault(value, []).extend(_is_weight(user, node) for user in node.users)
        elif node.target is _ATEN._assert_tensor_metadata.default:
            module.graph.erase_node(node)
    for weight, are_products in readers.items():
        if are_products and all(are_products) and weight.dtype is torch.float32:
            weight.data = weight.data.to(torch.bfloat16)
    module.recompile()


def _is_weight(user: Any, node: Any) -> bool:
    at = _WEIGHT_AT.get(user.target)
    return at is not None and user.args[at] is node and user.args.count(node) == 1


def _attribute(module: torch.nn.Module, node: Any) -> Any:
    holder: Any = module
    for name in node.target.split("."):
        holder = getattr(holder, name)
    return holder
