"""The provider sandbox: Stripe's wire protocol on your own machine, with faults on demand and no money behind it."""
