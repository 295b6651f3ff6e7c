// In place of the CUDA backend where no toolkit was found. No stream of a GPU can be made, so none
// of the operators is ever called.
#include "kernels/base/error.h"
#include "kernels/base/stream.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/device_tiles.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/graph.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/norm.h"
#include "kernels/cuda/range.h"
#include "kernels/cuda/side_copies.h"
#include "kernels/cuda/stream.h"

namespace longtake {

namespace {

constexpr const char* kWhy = "this longtake was built without CUDA";

[[noreturn]] void absent() {
  fail(ExitCode::usage, "{}", kWhy);
}

}  // namespace

StreamRef::StreamRef(cuda::Stream&, ThreadPool&, WorkClock*) {
  absent();
}
void StreamRef::synchronize() const {}
void StreamRef::make_current() const {}

namespace cuda {

class Arena {};
class Gemm {};
class Dnn {};
class UploadRing {};

bool compiled_in() {
  return false;
}
std::vector<DeviceInfo> devices(std::string* why) {
  if (why) *why = kWhy;
  return {};
}
size_t free_bytes(int) {
  absent();
}
std::string library_versions() {
  absent();
}

Stream::Stream(int, Priority) {
  absent();
}
Stream::~Stream() = default;
DeviceMemory& Stream::memory() {
  absent();
}
void Stream::synchronize() {}
void Stream::make_current() const {}
Gemm& Stream::gemm() {
  absent();
}
Dnn& Stream::dnn() {
  absent();
}
int begin_interval(Stream&) {
  absent();
}
void end_interval(Stream&, int, double*) {
  absent();
}
UploadRing& Stream::upload_ring() {
  absent();
}
void* Stream::scratch(size_t, int) {
  absent();
}
DeviceTiles::DeviceTiles(const AttentionTiles&, Stream&) {
  absent();
}
Range::Range(const char*) {}
Range::~Range() = default;
size_t Stream::held_bytes() const {
  return 0;
}
size_t Stream::peak_bytes() const {
  return 0;
}

std::unique_ptr<SideCopies> make_side_copies(Stream&) {
  absent();
}
std::unique_ptr<Graph> record_graph(Stream&, const std::function<void()>&) {
  absent();
}
void launch(const Graph&, Stream&) {
  absent();
}
uint64_t Stream::scratch_version() const {
  return 0;
}
void copy(ConstTensor, Tensor, const MemoryRows&, Stream&) {
  absent();
}
void upload(Tensor, const FillPiece&, Stream&) {
  absent();
}
void fill_zero(Tensor, Stream&) {
  absent();
}
void attention(const AttentionArgs&, Stream&) {
  absent();
}
void merge_attention(const AttentionMergeArgs&, Stream&) {
  absent();
}
std::unique_ptr<Linear::Packed> pack_linear(ConstTensor, ConstTensor, DType, StreamRef) {
  absent();
}
void linear(const LinearArgs&, const Linear&, StreamRef) {
  absent();
}
std::unique_ptr<ConvWeights::Packed> pack_conv(ConstTensor, ConstTensor, DType, StreamRef) {
  absent();
}
void conv(std::span<const ConstTensor>, const ConvWeights&, Padding, bool, Tensor, StreamRef) {
  absent();
}
void upsample_duplicate(ConstTensor, int64_t, int64_t, Tensor, StreamRef) {
  absent();
}
void upsample_nearest(ConstTensor, Tensor, StreamRef) {
  absent();
}
void layer_norm(ConstTensor, ConstTensor, ConstTensor, const int32_t*, bool, float, Tensor,
                Stream&) {
  absent();
}
void rms_norm(ConstTensor, ConstTensor, float, ConstTensor, ConstTensor, int64_t, Tensor, Stream&) {
  absent();
}
void channel_norm(ConstTensor, ConstTensor, bool, Tensor, Stream&) {
  absent();
}
void convert(ConstTensor, Tensor, Stream&) {
  absent();
}
void silu(ConstTensor, Tensor, Stream&) {
  absent();
}
void gated_gelu(ConstTensor, ConstTensor, Tensor, Stream&) {
  absent();
}
void add(ConstTensor, Tensor, Stream&) {
  absent();
}
void linear_combination(std::span<const ConstTensor>, std::span<const float>, Tensor, Stream&) {
  absent();
}
bool all_finite(ConstTensor, Stream&) {
  absent();
}
void add_rows(ConstTensor, ConstTensor, Tensor, Stream&) {
  absent();
}
void relative_bias(ConstTensor, ConstTensor, Tensor, Stream&) {
  absent();
}
void solver_step(const SolverStepArgs&, Stream&) {
  absent();
}
void patchify(ConstTensor, const PatchGrid&, Tensor, Stream&) {
  absent();
}
void unpatchify(ConstTensor, const PatchGrid&, Tensor, Stream&) {
  absent();
}

}  // namespace cuda
}  // namespace longtake
