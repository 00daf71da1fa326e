// SPDX-License-Identifier: Apache-2.0
// Asio's one copy of compiled code (BOOST_ASIO_SEPARATE_COMPILATION).
#include <boost/asio/impl/src.hpp>
