#include "kernels/cuda/range.h"

#include <nvtx3/nvToolsExt.h>

namespace longtake::cuda {

namespace {

// "longtake" in the profiler, apart from the ranges of libraries.
nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t made = nvtxDomainCreateA("longtake");
  return made;
}

}  // namespace

Range::Range(const char* name) {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  nvtxDomainRangePushEx(domain(), &attributes);
}

Range::~Range() {
  nvtxDomainRangePop(domain());
}

}  // namespace longtake::cuda
