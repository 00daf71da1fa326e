// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace flexi::core {

/// Whether what stands behind "Bearer" may be the token of a login (JWT), by its looks: three parts of base64url, of which the first is
/// a JSON object. Whether it is valid only the authentication service can say.
bool may_be_login_token(std::string_view text);

}  // namespace flexi::core
