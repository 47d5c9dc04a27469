"""Reading what a compiled TPU program costs from its text."""

import pytest

from efficientnet_tpu.plan.hlo_cost import (
    OPERATION_CLASSES,
    OTHER,
    Cost,
    classify_operation,
    operation_costs,
    parse_values,
)

# As the compiler writes it, cut down: a convolution that reads HBM and writes on-chip memory, a prefetch of a part of a
# weight, a loop that runs three times. Sizes: bf16[4,8,8,20] in tiles of 8 x 128 is 8 * 8 * 8 * 128 numbers of 2 bytes.
PROGRAM = """\
HloModule program, is_scheduled=true

%fused_computation (param_0: bf16[4,8,8,20]) -> bf16[4,8,8,20] {
  ROOT %inner = bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)} multiply(%param_0, %param_0)
}

%body (state: (s32[], f32[128])) -> (s32[], f32[128]) {
  %state = (s32[]{:T(128)}, f32[128]{0:T(128)}) parameter(0)
  %sum = f32[128]{0:T(128)} get-tuple-element(%state), index=1
  ROOT %again = f32[128]{0:T(128)} fusion(%sum), kind=kLoop, metadata={op_name="net/block_0_project_bn_1/Mean"}, \
backend_config={"estimated_cycles":"10"}
}

ENTRY %main (images: bf16[4,8,8,20], weights: f32[64,128]) -> bf16[4,8,8,20] {
  %images = bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)} parameter(0), metadata={op_name="XLA_Args"}
  %weights = f32[64,128]{1,0:T(8,128)} parameter(1)
  %slice-start.1 = ((f32[64,128]{1,0:T(8,128)}), f32[16,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%weights), slice={[0:16], [0:128]}
  %slice-done.1 = f32[16,128]{1,0:T(8,128)S(1)} slice-done(%slice-start.1)
  %fusion.1 = bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)S(1)} fusion(%images, %slice-done.1), kind=kOutput, \
calls=%fused_computation, metadata={op_name="gradient_tape/net/block_0_depthwise_conv_1/x"}, \
backend_config={"estimated_cycles":"700"}
  %copy-start.1 = (bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)}, bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) \
copy-start(%fusion.1)
  %copy-done.1 = bf16[4,8,8,20]{3,0,2,1:T(8,128)(2,1)} copy-done(%copy-start.1)
  %while.1 = (s32[]{:T(128)}, f32[128]{0:T(128)}) while(%tuple.1), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %all-reduce.1 = f32[64,128]{1,0:T(8,128)} all-reduce(%weights), replica_groups={{0,1}}, to_apply=%add
}
"""
IMAGES = 4 * 2 * 8 * 8 * 128 * 2  # 4 of the second-minor axis fill a tile of 8, and 20 of the minor one of 128


def test_every_kind_of_traffic():
    found = {name: cost for name, cost in operation_costs(PROGRAM).items() if cost != Cost()}
    assert found == {
        "depthwise": Cost(IMAGES, 700),  # its weight and its result are on the chip
        "batch norm": Cost(3 * 2 * 128 * 4, 30),
        "all-reduce": Cost(2 * 64 * 128 * 4, 0),
        OTHER: Cost(16 * 128 * 4 + IMAGES, 0),  # a quarter of the weights fetched, the result put into HBM
    }
    assert set(operation_costs(PROGRAM)) == {name for name, _ in OPERATION_CLASSES} | {OTHER}


@pytest.mark.parametrize(
    ("text", "size", "in_hbm"),
    [
        ("f32[10]", 40, True),
        ("f32[10]{0:T(128)}", 512, True),
        ("bf16[128,112,112,32]{0,3,2,1:T(8,128)(2,1)}", 128 * 112 * 112 * 32 * 2, True),
        ("bf16[64,112,112,32]{0,3,2,1:T(8,128)(2,1)S(1)}", 128 * 112 * 112 * 32 * 2, False),
        ("pred[3,5]{1,0:T(4,128)}", 4 * 128, True),
        ("u32[]{:T(128)S(6)}", 4, False),
    ],
)
def test_values_are_padded_to_tiles(text, size, in_hbm):
    [value] = parse_values(text)
    assert (value.size, value.in_hbm) == (size, in_hbm)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("efficientnet-b0_1/block_3_depthwise_conv_1/depthwise", "depthwise"),
        ("gradient_tape/efficientnet-b0_1/block_3_depthwise_bn_1/add_1/Sum", "batch norm"),
        ("efficientnet-b0_1/block_3_se_reduce_1/convolution", "squeeze-excite"),
        ("gradient_tape/efficientnet-b0_1/block_1_expand_conv_1/convolution/Conv2DBackpropFilter", "pointwise"),
        ("efficientnet-b0_1/head_conv_1/convolution", "pointwise"),
        ("efficientnet-b0_1/block_1_expand_bn_1/block_1_expand_conv/Conv2D", "pointwise"),
        ("block_1_expand_conv/Conv2DBackpropFilter", "pointwise"),
        ("expansion_bn/Sum", "batch norm"),
        ("projection_bn_13/block_2_project_conv_1/Conv2DBackpropInput", "pointwise"),
        ("efficientnet-b0_1/block_2_project_conv_1/block_2_se_squeeze/Mean", "squeeze-excite"),
        ("efficientnet-b0_1/stem_bn_1/mul", "batch norm"),
        ("efficientnet-b0_1/stem_conv_1/convolution", "stem"),
        ("efficientnet-b0_1/normalization_1/truediv", "stem"),
        ("efficientnet-b0_1/block_2_drop_1/stateless_random_uniform/StatelessRandomUniformV2", "residual and drop"),
        ("efficientnet-b0_1/classifier_1/MatMul", "classifier and loss"),
        ("softmax_cross_entropy_with_logits", "classifier and loss"),
        ("Sub_17", "optimizer and average"),
        ("rm_sprop/Min", "optimizer and average"),
        ("XLA_Args", OTHER),
    ],
)
def test_classes(name, kind):
    assert classify_operation(name) == kind
