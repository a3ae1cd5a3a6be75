//! The Phoenix channel protocol: serializers, socket and long-poll state, presence folding, without IO.
