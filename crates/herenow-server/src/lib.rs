//! The herenow program: presence and channels beside any application.
