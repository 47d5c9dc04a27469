"""Lists the operations that the graph of a SavedModel may have: they compute, and touch no file, process or network.

A SavedModel is a program, and TensorFlow has operations that write files, load libraries or call Python. What is
not on the list here is refused before TensorFlow loads the graph, whatever it does: a list of what is forbidden would
not know the operations of tomorrow.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from efficientnet_tpu.exporting.metadata import forbidden, foreign_file

_MOST_NODES = 1_000_000  # B7's export has 5,000
_ARRAYS = """
BatchToSpaceND BatchToSpace BroadcastArgs BroadcastTo ClipByValue Concat ConcatOffset ConcatV2 Const DeepCopy
DepthToSpace Diag DiagPart DynamicPartition DynamicStitch Empty EnsureShape ExpandDims ExtractImagePatches Fill Gather
GatherNd GatherV2 GuaranteeConst Identity IdentityN InplaceAdd InplaceUpdate InvertPermutation LinSpace ListDiff
MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
MatrixSetDiagV3 MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch Placeholder
PlaceholderWithDefault PreventGradient Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd Select
SelectV2 Shape ShapeN Size Slice SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
TensorStridedSliceUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex Where
ZerosLike
"""
_ARITHMETIC = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh
BatchMatMul BatchMatMulV2 BatchMatMulV3 BesselI0e BesselI1e Betainc Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor
Bucketize Cast Ceil CheckNumerics Cholesky Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp
DenseBincount Digamma Div DivNoNan Einsum Equal Erf Erfc Erfinv Exp Expm1 FFT FFT2D Floor FloorDiv FloorMod Greater
GreaterEqual IFFT IFFT2D IRFFT IRFFT2D Igamma Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma Log
Log1p LogicalAnd LogicalNot LogicalOr LowerBound MatMul MatrixDeterminant MatrixInverse MatrixSolve Max Maximum Mean Min
Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma Pow Prod Qr RFFT RFFT2D Real RealDiv Reciprocal
RightShift Rint Round Rsqrt SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Sigmoid Sign Sin Sinh
SparseSegmentMean SparseSegmentSum SparseTensorDenseMatMul SparseToDense Sqrt Square SquaredDifference Sub Sum Svd Tan
Tanh TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
Xdivy Xlog1py Xlogy Zeta
"""
_NETWORKS = """
AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput
Conv2DBackpropInputV2 Conv3D Conv3DBackpropInputV2 DepthwiseConv2dNative Dequantize Dilation2D Elu
FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FusedBatchNorm FusedBatchNormV2
FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D InTopK InTopKV2 L2Loss LRN LeakyRelu LogSoftmax MaxPool
MaxPool3D MaxPoolV2 MaxPoolWithArgmax QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
QuantizeAndDequantizeV4 QuantizeV2 Relu Relu6 Selu Softmax SoftmaxCrossEntropyWithLogits Softplus Softsign
SparseSoftmaxCrossEntropyWithLogits TopK TopKV2
"""
_IMAGES = """
AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression CropAndResize DecodeAndCropJpeg
DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeWebP DrawBoundingBoxes DrawBoundingBoxesV2 EncodeJpeg
EncodePng ExtractGlimpse ExtractJpegShape HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3
NonMaxSuppression NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea
ResizeBicubic ResizeBilinear ResizeNearestNeighbor SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
ScaleAndTranslate StatelessSampleDistortedBoundingBox
"""
_TEXTS = """
AsString DecodeBase64 DecodePaddedRaw DecodeRaw EncodeBase64 ReduceJoin RegexFullMatch RegexReplace StaticRegexFullMatch
StaticRegexReplace StringFormat StringJoin StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip
StringToHashBucketFast StringToHashBucketStrong StringToNumber StringUpper Substr UnicodeTranscode UnsortedSegmentJoin
"""
_CONTROL = """
Assert Case ControlTrigger Enter Exit FakeParam If LoopCond Merge NextIteration NoOp PartitionedCall RefEnter RefExit
RefMerge RefNextIteration RefSwitch StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch
While
EmptyTensorList TensorListConcat TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather
TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
TensorListScatter TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit
TensorListStack
TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3
"""
# In memory; the export's own reads the images of a batch by them.
_STREAMS = """
BatchDataset BatchDatasetV2 ConcatenateDataset DatasetToSingleElement FilterDataset FinalizeDataset IgnoreErrorsDataset
MapDataset OptionsDataset ParallelBatchDataset ParallelMapDatasetV2 PrefetchDataset RangeDataset ReduceDataset
RewriteDataset SkipDataset TakeDataset TensorDataset TensorSliceDataset ZipDataset
"""
# Variables and tables live in the memory of the process.
_MEMORY = """
AssignAddVariableOp AssignSubVariableOp AssignVariableOp DestroyResourceOp DisableCopyOnRead ReadVariableOp
ResourceGather ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
AnonymousHashTable AnonymousMutableHashTable HashTable HashTableV2 InitializeTable InitializeTableV2 LookupTableExportV2
LookupTableFind LookupTableFindV2 LookupTableImportV2 LookupTableInsertV2 LookupTableSize LookupTableSizeV2
MutableHashTable MutableHashTableV2
"""
_RANDOM = """
AnonymousSeedGenerator Multinomial RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt RngReadAndSkip
RngSkip StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
StatelessMultinomial StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg
StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform StatelessRandomUniformFullInt
StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2 StatelessRandomUniformV2
StatelessTruncatedNormal StatelessTruncatedNormalV2 TruncatedNormal
"""
OPERATIONS = frozenset(
    f"{_ARRAYS} {_ARITHMETIC} {_NETWORKS} {_IMAGES} {_TEXTS} {_CONTROL} {_STREAMS} {_MEMORY} {_RANDOM}".split()
)
# Of the two functions that save and restore the variables in a program of TensorFlow 1 or in C++. Loading from Python
# runs neither: it restores the variables itself.
SAVER_OPERATIONS = frozenset(("MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"))


def check_operations(content: bytes, path: str) -> None:
    """Raises UserError for a SavedModel that could do more than compute.

    content: of saved_model.pb. path: of the directory, for messages.
    """
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(content)
    except DecodeError as error:
        raise foreign_file(path, "saved_model.pb is damaged or of another kind") from error
    # Of any other, TensorFlow runs the graph itself, with functions by which TensorFlow 1 began a session.
    if len(saved_model.meta_graphs) != 1 or not saved_model.meta_graphs[0].HasField("object_graph_def"):
        raise foreign_file(path, "saved_model.pb is TensorFlow 1's or has several graphs")
    [graph] = saved_model.meta_graphs
    library = graph.graph_def.library.function
    functions = {function.signature.name for function in library}
    if len(functions) < len(library):  # of two with one name, which would run?
        raise foreign_file(path, "it has two functions of one name")
    parts = [("", graph.graph_def.node), *((function.signature.name, function.node_def) for function in library)]
    if sum(len(nodes) for _, nodes in parts) > _MOST_NODES:
        raise foreign_file(path, f"it has more than {_MOST_NODES:,} operations")
    saver = _saver_functions(graph)
    for name, nodes in parts:
        allowed = OPERATIONS | SAVER_OPERATIONS if name in saver else OPERATIONS
        where = f"its function {name!r:.100}" if name else "its graph"
        for node in nodes:
            # Of a function with the name of an operation, TensorFlow may run the operation.
            is_call = node.op in functions and op_def_registry.get(node.op) is None
            if not is_call and node.op not in allowed:
                raise forbidden(path, f"{where} has the operation {node.op!r:.100}, which is not known only to compute")
            for called in _named_functions(node.attr):
                if called not in functions:
                    raise forbidden(path, f"{where} calls {called!r:.100}, which it does not define")


def _saver_functions(graph: Any) -> set[str]:
    """Returns the functions that save and restore variables, as far as nothing else calls them."""
    tensors = (graph.saver_def.save_tensor_name, graph.saver_def.restore_op_name)
    of_saver = {tensor.partition(":")[0] for tensor in tensors}
    found: set[str] = set()
    elsewhere: set[str] = set()
    for node in graph.graph_def.node:
        (found if node.name in of_saver else elsewhere).update((node.op, *_named_functions(node.attr)))
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            elsewhere.update((node.op, *_named_functions(node.attr)))
    objects = graph.object_graph_def.SerializeToString()  # which name functions in many places
    return {name for name in found - elsewhere if name.encode() not in objects}


def _named_functions(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Yields the names of the functions that a node calls."""
    for value in attributes.values():
        functions: Iterable[Any] = (value.func, *value.list.func)
        for function in functions:
            if function.name:
                yield function.name
                yield from _named_functions(function.attr)
