//! One evaluation: plan, worker protocol, clock, reference, verdict, report.
