// A GPU on a machine that has none: tensors of the device cuda:0 lie in ordinary memory, and CPU kernels compute them.
//
// What PyTorch and the code that calls it do is what they would do on a GPU; only the arithmetic is done elsewhere.
// An operation refuses what a GPU would refuse: tensors of two devices, products of integers, a CPU's generator.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <set>
#include <string>
#include <utility>
#include <vector>

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::DispatchKey;
using c10::Storage;
using c10::Stream;

namespace {

const Device CPU(DeviceType::CPU);
const Device GPU(DeviceType::CUDA, 0);

std::atomic<long> operations{0};
std::atomic<long> waits{0};
std::set<c10::GeneratorImpl*> generators;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device) const override { return GPU; }
  Device getDevice() const override { return GPU; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::DEFAULT, GPU); }
  Stream getNewStream(Device, int) const override { return Stream(Stream::DEFAULT, GPU); }
  Stream getDefaultStream(Device) const override { return Stream(Stream::DEFAULT, GPU); }
  Stream exchangeStream(Stream) const override { return Stream(Stream::DEFAULT, GPU); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const Stream&, const DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
};

at::Generator generator() {
  auto made = at::detail::createCPUGenerator(0);
  generators.insert(made.unsafeGetGeneratorImpl());
  return made;
}

// A storage on another device that shares the memory of one, and keeps it alive.
Storage shared(const Storage& storage, Device device) {
  auto* kept = new Storage(storage);
  auto drop = [](void* context) { delete static_cast<Storage*>(context); };
  c10::DataPtr memory(const_cast<void*>(storage.data()), kept, drop, device);
  auto* allocator = device == CPU ? c10::GetAllocator(DeviceType::CPU) : nullptr;
  return Storage(Storage::use_byte_size_t(), storage.nbytes(), std::move(memory), allocator, device == CPU);
}

Tensor view(const Tensor& of, const Storage& storage, DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(Storage(storage), c10::DispatchKeySet(key), of.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(of.sizes(), of.strides(), of.storage_offset());
  return made;
}

// The tensors of one operation: each as the GPU's, and as the CPU's over the same memory.
class Twins {
 public:
  Tensor on_cpu(const Tensor& gpu) {
    if (!gpu.defined() || !gpu.is_cuda()) return gpu;
    for (auto& [a, b] : pairs)
      if (a.is_same(gpu)) return b;
    Storage storage;
    for (auto& [a, b] : pairs)
      if (a.storage().is_alias_of(gpu.storage())) storage = b.storage();
    if (!storage) storage = shared(gpu.storage(), CPU);
    pairs.emplace_back(gpu, view(gpu, storage, DispatchKey::CPU));
    return pairs.back().second;
  }

  Tensor on_gpu(const Tensor& cpu) {
    if (!cpu.defined() || cpu.is_cuda()) return cpu;
    for (auto& [a, b] : pairs)
      if (b.is_same(cpu)) return a;
    for (auto& [a, b] : pairs)
      if (b.storage().is_alias_of(cpu.storage())) return view(cpu, a.storage(), DispatchKey::CUDA);
    return view(cpu, shared(cpu.storage(), GPU), DispatchKey::CUDA);
  }

  // Let the GPU's tensors follow what an operation has resized.
  void follow() {
    for (auto& [a, b] : pairs) {
      if (a.storage().data() != b.storage().data())
        a.unsafeGetTensorImpl()->set_storage_keep_dtype(shared(b.storage(), GPU));
      a.unsafeGetTensorImpl()->set_sizes_and_strides(b.sizes(), b.strides(), b.storage_offset());
    }
  }

  std::vector<std::pair<Tensor, Tensor>> pairs;
};

bool among(const std::set<std::string>& names, const c10::FunctionSchema& schema) { return names.count(schema.name()); }

// Those that read other devices' tensors, such as a CPU's indices of rows.
const std::set<std::string> ACROSS{"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"};
const std::set<std::string> WAITING{"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"};
const std::set<std::string> PRODUCTS{"aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::addmm", "aten::addmv",
                                     "aten::baddbmm"};

void compute(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  Twins twins;
  bool here = false;  // a tensor of the CPU that is more than a number
  bool makes_gpu = true;
  auto taken = [&](const Tensor& tensor) {
    here |= tensor.defined() && !tensor.is_cuda() && tensor.dim() > 0;
    return twins.on_cpu(tensor);
  };
  const auto arguments = schema.arguments().size();
  for (size_t i = 0; i < arguments; ++i) {
    auto& given = torch::jit::peek(*stack, i, arguments);
    if (given.isTensor()) {
      given = taken(given.toTensor());
    } else if (given.isTensorList()) {
      c10::List<Tensor> tensors;
      for (const Tensor& tensor : given.toTensorVector()) tensors.push_back(taken(tensor));
      given = tensors;
    } else if (given.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> tensors;
      for (std::optional<Tensor> tensor : given.toOptionalTensorList())
        tensors.push_back(tensor ? std::optional(taken(*tensor)) : tensor);
      given = tensors;
    } else if (given.isStorage()) {
      given = shared(given.toStorage(), CPU);
    } else if (given.isDevice()) {
      makes_gpu = given.toDevice().is_cuda();
      given = CPU;
    } else if (given.isGenerator()) {
      TORCH_CHECK(generators.count(given.toGenerator().unsafeGetGeneratorImpl()), schema.name(),
                  ": expected a generator of cuda, but found one of cpu");
    }
  }
  TORCH_CHECK(!here || twins.pairs.empty() || among(ACROSS, schema), schema.name(),
              ": expected all tensors to be on the same device, but found at least two, cuda:0 and cpu");
  if (among(PRODUCTS, schema))
    for (auto& [gpu, cpu] : twins.pairs)
      TORCH_CHECK(!c10::isIntegralType(gpu.scalar_type(), true), schema.name(), " of integers is not implemented on cuda");
  ++operations;
  waits += among(WAITING, schema);
  op.callBoxed(stack);
  const auto results = makes_gpu ? schema.returns().size() : 0;
  for (size_t i = 0; i < results; ++i) {
    auto& made = torch::jit::peek(*stack, i, results);
    if (made.isTensor()) {
      made = twins.on_gpu(made.toTensor());
    } else if (made.isTensorList()) {
      c10::List<Tensor> tensors;
      for (const Tensor& tensor : made.toTensorVector()) tensors.push_back(twins.on_gpu(tensor));
      made = tensors;
    }
  }
  twins.follow();
}

Tensor& copy(Tensor& self, const Tensor& from, bool) {
  Twins twins;
  ++operations;
  waits += !self.is_cuda();
  twins.on_cpu(self).copy_(twins.on_cpu(from));
  return self;
}

// PyTorch's own has no memory.
Tensor zeros(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout> layout,
             std::optional<Device> device, std::optional<bool> pinned) {
  return at::zeros_symint(size, dtype, layout, device, pinned);
}

}  // namespace

namespace at {

// PyTorch looks for a class of this name.
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  int getNumGPUs() const override { return 1; }
  Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(DeviceType::CPU); }
  Generator getNewGenerator(DeviceIndex) const override { return generator(); }
  const Generator& getDefaultGenerator(DeviceIndex) const override {
    static const Generator made = generator();
    return made;
  }
};
REGISTER_CUDA_HOOKS(CUDAHooks)

}  // namespace at

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("copy_", copy);
  m.impl("_efficientzerotensor", zeros);
}

// How many operations there were since the process began, and how many of them the CPU had to wait for.
extern "C" long operations_so_far() { return operations; }
extern "C" long waits_so_far() { return waits; }
