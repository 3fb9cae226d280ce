#include "server/services/reflection_service.h"

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"
#include "grpcpp/support/status_code_enum.h"
#include "server/convert/text.h"

namespace tdp::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

template <typename Response>
void SetError(Response* response, grpc::StatusCode code,
              const std::string& message) {
  auto* error = response->mutable_error_response();
  error->set_error_code(code);
  error->set_error_message(message);
}

// Adds `file` and what it imports, each once.
template <typename Response>
void AddFile(const FileDescriptor* file, std::set<const FileDescriptor*>* seen,
             Response* response) {
  if (!seen->insert(file).second) return;
  google::protobuf::FileDescriptorProto proto;
  file->CopyTo(&proto);
  response->mutable_file_descriptor_response()->add_file_descriptor_proto(
      proto.SerializeAsString());
  for (int i = 0; i < file->dependency_count(); ++i) {
    AddFile(file->dependency(i), seen, response);
  }
}

template <typename Response>
void AnswerFile(const FileDescriptor* file, const std::string& what,
                Response* response) {
  if (file == nullptr) {
    SetError(response, grpc::StatusCode::NOT_FOUND,
             absl::StrCat(what, " is not known here"));
    return;
  }
  std::set<const FileDescriptor*> seen;
  AddFile(file, &seen, response);
}

template <typename Response>
void AnswerExtensionNumbers(const DescriptorPool& pool,
                            const std::string& type_name, Response* response) {
  const Descriptor* type = pool.FindMessageTypeByName(type_name);
  if (type == nullptr) {
    SetError(response, grpc::StatusCode::NOT_FOUND,
             absl::StrCat("message ", Shown(type_name), " is not known here"));
    return;
  }
  auto* answer = response->mutable_all_extension_numbers_response();
  answer->set_base_type_name(type_name);
  std::vector<const FieldDescriptor*> extensions;
  pool.FindAllExtensions(type, &extensions);
  for (const FieldDescriptor* extension : extensions) {
    answer->add_extension_number(extension->number());
  }
}

template <typename Request, typename Response>
class Answerer final : public StreamAnswerer<Request, Response> {
 public:
  explicit Answerer(const ReflectionHandlerOf<Request, Response>& handler)
      : handler_(handler) {}

  absl::Status Answer(CallContext&, const Request& message,
                      Response* response) override {
    handler_.Answer(message, response);
    return absl::OkStatus();
  }

 private:
  const ReflectionHandlerOf<Request, Response>& handler_;
};

}  // namespace

template <typename Request, typename Response>
absl::StatusOr<std::unique_ptr<StreamAnswerer<Request, Response>>>
ReflectionHandlerOf<Request, Response>::ServerReflectionInfo(CallContext&) {
  return std::make_unique<Answerer<Request, Response>>(*this);
}

template <typename Request, typename Response>
void ReflectionHandlerOf<Request, Response>::Answer(const Request& request,
                                                    Response* response) const {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  const DescriptorPool& pool = *DescriptorPool::generated_pool();
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      AnswerFile(pool.FindFileByName(request.file_by_filename()),
                 absl::StrCat("file ", Shown(request.file_by_filename())),
                 response);
      return;
    case Request::kFileContainingSymbol:
      AnswerFile(
          pool.FindFileContainingSymbol(request.file_containing_symbol()),
          absl::StrCat("symbol ", Shown(request.file_containing_symbol())),
          response);
      return;
    case Request::kFileContainingExtension: {
      const auto& query = request.file_containing_extension();
      const Descriptor* type =
          pool.FindMessageTypeByName(query.containing_type());
      const FieldDescriptor* extension =
          type == nullptr
              ? nullptr
              : pool.FindExtensionByNumber(type, query.extension_number());
      AnswerFile(extension == nullptr ? nullptr : extension->file(),
                 absl::StrCat("extension ", query.extension_number(),
                              " of message ", Shown(query.containing_type())),
                 response);
      return;
    }
    case Request::kAllExtensionNumbersOfType:
      AnswerExtensionNumbers(pool, request.all_extension_numbers_of_type(),
                             response);
      return;
    case Request::kListServices:
      for (const std::string& name : service_names_) {
        response->mutable_list_services_response()->add_service()->set_name(
            name);
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      SetError(response, grpc::StatusCode::INVALID_ARGUMENT,
               "message_request is empty; it must hold a question");
      return;
  }
}

template class ReflectionHandlerOf<
    grpc::reflection::v1::ServerReflectionRequest,
    grpc::reflection::v1::ServerReflectionResponse>;
template class ReflectionHandlerOf<
    grpc::reflection::v1alpha::ServerReflectionRequest,
    grpc::reflection::v1alpha::ServerReflectionResponse>;

}  // namespace tdp::server
